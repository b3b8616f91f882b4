//! Topics of a Kafka.

use std::time::{Duration, UNIX_EPOCH};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use tokio::task::spawn_blocking;

use super::{super::PATIENCE, Arrived, PAGE};

/// More than one, so that keys matter.
const PARTITIONS: i32 = 3;

/// The next offset of each partition.
pub(crate) type Offsets = [i64; PARTITIONS as usize];

/// Makes a topic with these settings.
pub(crate) async fn create(brokers: &str, topic: &str, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = admin.create_topics(&[topic], &options).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

/// What is in a topic from these offsets on, each partition in its order, and the offsets behind it.
pub(crate) async fn page(brokers: &str, topic: &str, from: Offsets) -> (Vec<Arrived>, Offsets) {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    spawn_blocking(move || page_blocking(&brokers, &topic, from)).await.unwrap()
}

/// How many records a topic has.
pub(crate) async fn count(brokers: &str, topic: &str) -> u64 {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    let counted = spawn_blocking(move || {
        let consumer = consumer(&brokers);
        let length = |partition| {
            let (low, high) = consumer.fetch_watermarks(&topic, partition, PATIENCE).unwrap();
            (high - low).unsigned_abs()
        };
        (0..PARTITIONS).map(length).sum()
    });
    counted.await.unwrap()
}

fn consumer(brokers: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "reader").create().unwrap()
}

fn page_blocking(brokers: &str, topic: &str, from: Offsets) -> (Vec<Arrived>, Offsets) {
    let consumer = consumer(brokers);
    let (mut left, mut list, mut next) = (0, TopicPartitionList::new(), from);
    for (partition, from) in (0..).zip(from) {
        let (_, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap();
        if high > from {
            left += high - from;
            list.add_partition_offset(topic, partition, Offset::Offset(from)).unwrap();
        }
    }
    consumer.assign(&list).unwrap();
    let mut read = Vec::new();
    for _ in 0..left.min(PAGE as i64) {
        let message = consumer.poll(PATIENCE).expect("there is more").unwrap();
        let at = message.timestamp().to_millis().and_then(|millis| u64::try_from(millis).ok());
        let mut arrived = Arrived {
            body: message.payload().unwrap().to_vec(),
            at: at.map(|millis| UNIX_EPOCH + Duration::from_millis(millis)),
            ..Arrived::default()
        };
        for header in message.headers().unwrap().iter() {
            arrived.header("ce_", header.key, header.value.unwrap());
        }
        next[message.partition() as usize] = message.offset() + 1;
        read.push(arrived);
    }
    (read, next)
}
