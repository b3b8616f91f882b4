//! The conformance kit, against a real Kafka.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    process,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use hookbus_brokers::{ClaimedDoor, Contact, Kind, shared};
use hookbus_core::{Address, Envelope, Instant};
use hookbus_kafka::Kafka;
use hookbus_testkit::{FaultProxy, Fixture, Observed, Skip, address, async_trait};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};

/// What topics here take: the driver's own batches would be larger.
const LARGEST: usize = 64 << 10;

/// Topics of its own at the shared broker, which it reaches through a proxy in front of a door of its own.
struct KafkaFixture {
    kafka: Contact,
    proxy: FaultProxy,
    name: String,
    topics: AtomicUsize,
    _door: ClaimedDoor,
}

impl KafkaFixture {
    async fn create(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.kafka.url()).create().unwrap();
        let largest = LARGEST.to_string();
        let topic = NewTopic::new(topic, 3, TopicReplication::Fixed(1)).set("max.message.bytes", &largest);
        let made = admin.create_topics(&[topic], &AdminOptions::new()).await.unwrap();
        // It may be there: an address asked for again.
        assert!(
            made[0].as_ref().err().is_none_or(|(_, code)| format!("{code:?}") == "TopicAlreadyExists"),
            "{made:?}"
        );
    }

    fn address_of(&self, topic: &str) -> Address {
        address::<Kafka>(&[("topic", topic), ("key", "key")])
    }
}

#[async_trait]
impl Fixture for KafkaFixture {
    type Plugin = Kafka;

    async fn start() -> Result<Self, Skip> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let kafka = shared(Kind::Kafka).ok_or_else(|| Skip::new("needs kafka"))?;
        let door = kafka.claim_door().ok_or_else(|| Skip::new("needs a broker of ours, with a free door"))?;
        // Whoever had the door before may not have closed its listener yet.
        let until = Instant::now() + Duration::from_secs(30);
        let proxy = loop {
            match FaultProxy::start_at(door.advertised, door.upstream).await {
                Ok(proxy) => break proxy,
                Err(error) => assert!(Instant::now() < until, "{}: {error}", door.advertised),
            }
            tokio::task::yield_now().await;
        };
        let name = format!("conformance-{}-{}", process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        Ok(Self { kafka, proxy, name, topics: AtomicUsize::new(0), _door: door })
    }

    fn config(&self) -> String {
        format!("brokers = [\"{}\"]\n", self.proxy.address())
    }

    fn patience(&self) -> Duration {
        // The driver itself never gives up: what cannot succeed takes as long as it may.
        Duration::from_secs(30)
    }

    async fn address(&self, n: usize) -> Address {
        let topic = format!("{}-{n}", self.name);
        self.create(&topic).await;
        self.address_of(&topic)
    }

    async fn read(&self, address: &Address) -> Vec<Observed> {
        let (brokers, topic) = (self.kafka.url().to_owned(), address.get("topic").unwrap().to_owned());
        tokio::task::spawn_blocking(move || read(&brokers, &topic)).await.unwrap()
    }

    fn proxy(&self) -> Result<&FaultProxy, Skip> {
        Ok(&self.proxy)
    }

    async fn missing(&self) -> Result<Address, Skip> {
        let number = self.topics.fetch_add(1, Ordering::Relaxed);
        Ok(self.address_of(&format!("{}-missing-{number}", self.name)))
    }

    async fn mend(&self, address: &Address) -> Result<(), Skip> {
        self.create(address.get("topic").unwrap()).await;
        Ok(())
    }

    fn largest_body(&self, like: &Envelope) -> Result<usize, Skip> {
        // The batch of records, version 2, of one record, as the protocol's guide lays it out.
        let varint = |number: usize| (0..5).find(|n| number << 1 < 1 << (7 * (n + 1))).unwrap() + 1;
        let with_length = |length: usize| varint(length) + length;
        let event = Observed::of(&like.event);
        let name = |attribute: &str| match attribute {
            "datacontenttype" => "content-type".len(),
            attribute => "ce_".len() + attribute.len(),
        };
        let attributes = event.attributes.iter().map(|(key, value)| (name(key), value.len()));
        let proof = event.proof.iter().map(|(key, value)| (key.len(), value.len()));
        let headers: Vec<_> = attributes.chain(proof).collect();
        let headers = varint(headers.len())
            + headers.iter().map(|(k, v)| with_length(*k) + with_length(*v)).sum::<usize>();
        let key = with_length(like.address.get("key").unwrap().len());
        let batch = |body: usize| 61 + with_length(3 + key + with_length(body) + headers);
        Ok((0..LARGEST).rev().find(|body| batch(*body) <= LARGEST).unwrap())
    }
}

/// Everything in a topic, partition by partition.
fn read(brokers: &str, topic: &str) -> Vec<Observed> {
    let wait = Duration::from_secs(30);
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "reader").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), wait).unwrap();
    let partitions = metadata.topics()[0].partitions().iter().map(|partition| partition.id());
    let (mut left, mut list) = (0, TopicPartitionList::new());
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, wait).unwrap();
        if high > low {
            left += high - low;
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&list).unwrap();
    let mut read = Vec::new();
    while left > 0 {
        let message = consumer.poll(wait).expect("there is more").unwrap();
        left -= 1;
        let mut observed = Observed {
            attributes: Default::default(),
            proof: Vec::new(),
            body: message.payload().expect("a value, if an empty one").to_vec().into(),
        };
        for header in message.headers().unwrap().iter() {
            let text = || String::from_utf8(header.value.unwrap().to_vec()).unwrap();
            match header.key.strip_prefix("ce_") {
                Some(attribute) => {
                    observed.attributes.insert(attribute.to_owned(), text());
                }
                None if header.key == "content-type" => {
                    observed.attributes.insert("datacontenttype".to_owned(), text());
                }
                None => observed.proof.push((header.key.to_owned(), header.value.unwrap().to_vec())),
            }
        }
        read.push((message.partition(), message.offset(), observed));
    }
    read.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    read.into_iter().map(|(_, _, observed)| observed).collect()
}

hookbus_testkit::sink_conformance!(KafkaFixture);
