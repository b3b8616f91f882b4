//! The sink beside the driver's own best loop: one channel, a full window of confirms, ready-made headers.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, or fails")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use hookbus_brokers::{Kind, Options, private};
use hookbus_core::Envelope;
use hookbus_rabbitmq::RabbitMq;
use hookbus_testkit::{Observed, Race, address, connect, distinct, drive};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions},
    types::{AMQPValue, FieldTable, LongString},
};

const EVENTS: usize = 30_000;
/// Messages without their confirmation at once: more were no faster.
const WINDOW: usize = 5000;

fn main() {
    let Some(broker) = private(Kind::RabbitMq, &Options::default()) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let finish = runtime.block_on(async {
        let connection = Connection::connect(broker.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for queue in ["sink", "driver"] {
            let durable = QueueDeclareOptions { durable: true, ..Default::default() };
            channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
        }
        let url = format!("amqp://{}", broker.address());
        let sink: Arc<dyn hookbus_core::Sink> =
            Arc::from(connect::<RabbitMq>(&format!("url = \"{url}\"")).await);
        let envelopes = distinct(EVENTS, 1100, &address::<RabbitMq>(&[("routing-key", "sink")]));
        let messages: Vec<_> = envelopes.iter().map(message).collect();
        let race = Race { name: "rabbitmq", events: EVENTS, rounds: 5 };
        race.run(
            |_| async {
                purge(&channel).await;
                drive(&sink, &envelopes).await
            },
            |_| async {
                purge(&channel).await;
                driver(&channel, &messages).await
            },
        )
        .await
    });
    println!("{finish}");
}

async fn purge(channel: &Channel) {
    for queue in ["sink", "driver"] {
        channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap();
    }
}

/// The headers as the sink makes them, and a body.
type Message = (Vec<(String, Vec<u8>)>, Vec<u8>);

fn message(envelope: &Envelope) -> Message {
    let event = Observed::of(&envelope.event);
    let attributes =
        event.attributes.into_iter().map(|(name, value)| (format!("ce-{name}"), value.into_bytes()));
    (attributes.chain(event.proof).collect(), event.body.to_vec())
}

async fn driver(channel: &Channel, messages: &[Message]) -> Duration {
    let begun = Instant::now();
    let mut window = FuturesUnordered::new();
    for (headers, body) in messages {
        if window.len() == WINDOW {
            confirmed(window.next().await);
        }
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.as_str().into(), AMQPValue::LongString(LongString::from(value.as_slice())));
        }
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(table);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let sent = channel.basic_publish("".into(), "driver".into(), options, body, properties);
        window.push(sent.await.unwrap());
    }
    while !window.is_empty() {
        confirmed(window.next().await);
    }
    begun.elapsed()
}

fn confirmed(confirmation: Option<Result<Confirmation, lapin::Error>>) {
    assert_eq!(confirmation.expect("the window holds one").unwrap(), Confirmation::Ack(None));
}
