//! Topics of a Kafka.

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use tokio::task::spawn_blocking;

use super::{super::PATIENCE, Arrived};

/// More than one, so that keys matter.
const PARTITIONS: i32 = 3;

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

/// Everything in a topic, partition by partition, each in its order.
pub(crate) async fn read(brokers: &str, topic: &str) -> Vec<Arrived> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    spawn_blocking(move || read_blocking(&brokers, &topic)).await.unwrap()
}

fn read_blocking(brokers: &str, topic: &str) -> Vec<Arrived> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "reader").create().unwrap();
    let (mut left, mut list) = (0, TopicPartitionList::new());
    for partition in 0..PARTITIONS {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap();
        if high > low {
            left += high - low;
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&list).unwrap();
    let mut read = Vec::new();
    while left > 0 {
        let message = consumer.poll(PATIENCE).expect("there is more").unwrap();
        left -= 1;
        let mut arrived = Arrived { body: message.payload().unwrap().to_vec(), ..Arrived::default() };
        for header in message.headers().unwrap().iter() {
            arrived.header("ce_", header.key, header.value.unwrap());
        }
        read.push((message.partition(), message.offset(), arrived));
    }
    read.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    read.into_iter().map(|(_, _, arrived)| arrived).collect()
}
