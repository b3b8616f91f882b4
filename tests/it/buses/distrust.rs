//! The examples do what they are there to show: they believe nobody, and acknowledge only what they have dealt with.

use hookbus_brokers::{Contact, Kind};
use lapin::{
    BasicProperties, Connection, ConnectionProperties, options::BasicPublishOptions, types::FieldTable,
};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use super::{consumer::Consumer, places::Places, send};
use crate::{
    corpus::video,
    support::{PATIENCE, Provider, bus::redis, in_company},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_tell_a_forged_event_from_a_genuine_one() {
    let Some(places) = Places::make().await else { return };
    let _in_company = in_company().await;
    let bridge = places.bridge().await;
    let genuine = video("5a1f0c1e-0000-4000-8000-000000000003", "m");
    send(&bridge, Provider::FastPix, &genuine).await;
    // Somebody else may write to the bus too, and has seen a signature there.
    let changed = String::from_utf8(genuine.clone()).unwrap().replace("\"Ready\"", "\"ready\"").into_bytes();
    let signature = Provider::FastPix.signature(&genuine);
    let forgeries = [(&changed, "/hooks/fastpix"), (&genuine, "/hooks/fastgen"), (&genuine, "/hooks/nobody")];
    for bus in &places.buses {
        for (body, source) in forgeries {
            forge(bus, &places.name, source, &signature, body).await;
        }
        // And what is there already may be there again.
        forge(bus, &places.name, "/hooks/fastpix", &signature, &genuine).await;
        let kind = bus.kind();
        let judged = places.consumer(bus).all().await;
        let authentic = judged.iter().filter(|judged| judged.authentic).collect::<Vec<_>>();
        assert_eq!((judged.len(), authentic.len()), (5, 2), "{kind}: {judged:#?}");
        assert!(authentic.iter().all(|event| event.body == genuine), "{kind}: {judged:#?}");
        // Which of the two is the first does not matter.
        assert_eq!(judged.iter().filter(|judged| judged.duplicate).count(), 1, "{kind}: {judged:#?}");
    }
    // A consumer with the wrong secret believes nothing.
    send(&bridge, Provider::FastPix, &video("5a1f0c1e-0000-4000-8000-000000000004", "m")).await;
    for bus in &places.buses {
        let consumer = Consumer { secret: Provider::wrong_secret, ..places.consumer(bus) };
        let judged = consumer.all().await;
        assert!(judged.len() == 1 && !judged[0].authentic, "{}: {judged:#?}", bus.kind());
    }
    places.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_acknowledge_what_they_have_dealt_with_and_nothing_else() {
    let Some(places) = Places::make().await else { return };
    let _in_company = in_company().await;
    let bridge = places.bridge().await;
    let bodies = (0..5).map(|number| video(&format!("5a1f0c1e-0000-4000-8000-00000000001{number}"), "m"));
    let bodies = bodies.collect::<Vec<_>>();
    for body in &bodies {
        send(&bridge, Provider::FastPix, body).await;
    }
    for bus in &places.buses {
        // All five are on their way to the first one when it ends.
        let consumer = places.consumer(bus);
        let mut read = consumer.next(2).await;
        assert_eq!(read.len(), 2);
        read.extend(consumer.all().await);
        // One at a time they were sent, and they are about one subject.
        let read = read.into_iter().map(|event| event.body).collect::<Vec<_>>();
        assert!(read == bodies, "{}: {} events, or another order", bus.kind(), read.len());
        assert!(consumer.all().await.is_empty(), "{}: something came twice", bus.kind());
    }
    places.remove().await;
}

/// Writes to a bus what looks like an event.
async fn forge(bus: &Contact, place: &str, source: &str, signature: &str, body: &[u8]) {
    let headers =
        [("source", source), ("id", "5a1f0c1e-0000-4000-8000-000000000003"), ("type", "video.media.ready")];
    let proof = Provider::FastPix.header();
    match bus.kind() {
        Kind::Redis => {
            let body = std::str::from_utf8(body).unwrap();
            let mut words = ["XADD", place, "*"].map(str::to_owned).to_vec();
            headers
                .iter()
                .for_each(|(name, value)| words.extend([format!("ce_{name}"), (*value).to_owned()]));
            words.extend([proof, signature, "data", body].map(str::to_owned));
            let words = words.iter().map(String::as_str).collect::<Vec<_>>();
            redis::command::<String>(bus.url(), &words).await;
        }
        Kind::RabbitMq => {
            let connection = Connection::connect(bus.url(), ConnectionProperties::default()).await.unwrap();
            let mut table = FieldTable::default();
            for (name, value) in headers {
                table.insert(format!("ce-{name}").into(), lapin::types::AMQPValue::LongString(value.into()));
            }
            table.insert(proof.into(), lapin::types::AMQPValue::LongString(signature.into()));
            let properties = BasicProperties::default().with_headers(table);
            let channel = connection.create_channel().await.unwrap();
            let options = BasicPublishOptions::default();
            let sent =
                channel.basic_publish("".into(), place.into(), options, body, properties).await.unwrap();
            sent.await.unwrap();
            connection.close(200, "done".into()).await.unwrap();
        }
        Kind::Kafka => {
            let producer: FutureProducer =
                ClientConfig::new().set("bootstrap.servers", bus.url()).create().unwrap();
            let mut table = OwnedHeaders::new();
            for (name, value) in headers {
                table = table.insert(Header { key: &format!("ce_{name}"), value: Some(value) });
            }
            table = table.insert(Header { key: proof, value: Some(signature) });
            let record = FutureRecord::<str, [u8]>::to(place).payload(body).headers(table);
            producer.send(record, PATIENCE).await.unwrap();
        }
    }
}
