//! The sink beside the driver's own best loop: `send_result` with a full window and ready-made headers.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, or fails")]

use std::{
    collections::VecDeque,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use hookbus_brokers::{Kind, Options, private};
use hookbus_core::Envelope;
use hookbus_kafka::Kafka;
use hookbus_testkit::{Observed, Race, address, connect, distinct, drive};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

const EVENTS: usize = 100_000;
/// Records with the driver at once: more were no faster.
const WINDOW: usize = 10_000;

fn main() {
    let Some(broker) = private(Kind::Kafka, &Options::default()) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let finish = runtime.block_on(async {
        let topic = |side: &str| format!("{side}-{}", process::id());
        for side in ["sink", "driver"] {
            create(broker.url(), &topic(side)).await;
        }
        let sink: Arc<dyn hookbus_core::Sink> =
            Arc::from(connect::<Kafka>(&format!("brokers = [\"{}\"]", broker.url())).await);
        let mut envelopes = distinct(EVENTS, 1100, &address::<Kafka>(&[("topic", &topic("sink"))]));
        for (n, envelope) in envelopes.iter_mut().enumerate() {
            envelope.address =
                address::<Kafka>(&[("topic", &topic("sink")), ("key", &format!("subject-{n}"))]);
        }
        let records: Vec<_> = envelopes.iter().map(record).collect();
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", broker.url())
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .create()
            .unwrap();
        let theirs = topic("driver");
        let race = Race { name: "kafka", events: EVENTS, rounds: 5 };
        race.run(|_| drive(&sink, &envelopes), |_| driver(&producer, &theirs, &records)).await
    });
    println!("{finish}");
}

async fn create(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    admin.create_topics(&[topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
}

/// A key, headers and a body as the sink makes them.
type Record = (String, Vec<(String, Vec<u8>)>, Vec<u8>);

fn record(envelope: &Envelope) -> Record {
    let event = Observed::of(&envelope.event);
    let attributes =
        event.attributes.into_iter().map(|(name, value)| (format!("ce_{name}"), value.into_bytes()));
    let key = envelope.address.get("key").unwrap().to_owned();
    (key, attributes.chain(event.proof).collect(), event.body.to_vec())
}

async fn driver(producer: &FutureProducer, topic: &str, records: &[Record]) -> Duration {
    let begun = Instant::now();
    let mut window = VecDeque::with_capacity(WINDOW);
    for (key, headers, body) in records {
        if window.len() == WINDOW {
            confirmed(window.pop_front()).await;
        }
        let insert = |headers: OwnedHeaders, (key, value): &(String, Vec<u8>)| {
            headers.insert(Header { key, value: Some(value) })
        };
        let headers = headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), insert);
        let record = FutureRecord::to(topic).key(key).payload(body).headers(headers);
        window.push_back(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    while !window.is_empty() {
        confirmed(window.pop_front()).await;
    }
    begun.elapsed()
}

async fn confirmed(delivery: Option<rdkafka::producer::DeliveryFuture>) {
    let delivered = delivery.expect("the window holds one").await.unwrap();
    delivered.map_err(|(error, _)| error).unwrap();
}
