//! The buses around the bridge: places to publish to, and what a consumer finds there.
//!
//! With the drivers' own consumers and nothing of our adapters, so that a mistake in one cannot hide in the other.

pub(crate) mod kafka;
pub(crate) mod rabbitmq;
pub(crate) mod redis;

use std::{collections::BTreeMap, mem, time::SystemTime};

use hookbus_brokers::{Contact, Kind};

use self::rabbitmq::Rabbit;

/// About so many events are read at once.
const PAGE: usize = 50_000;

/// An event as a consumer finds it.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// The attributes of CloudEvents by name, without what the bus puts before it.
    pub(crate) attributes: BTreeMap<String, String>,
    /// All other headers: those a consumer verifies the body with.
    pub(crate) proof: BTreeMap<String, String>,
    /// The body, byte for byte.
    pub(crate) body: Vec<u8>,
    /// When it arrived by the clock of the broker, where that keeps it.
    pub(crate) at: Option<SystemTime>,
}

/// How far a place has been read. A queue needs none: what was read is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mark {
    redis: String,
    kafka: kafka::Offsets,
}

/// What has come to a place since this mark, which moves on; nothing where nothing has. The order is that of the place,
/// or of each partition.
pub(crate) async fn page(broker: &Contact, place: &str, mark: &mut Mark) -> Vec<Arrived> {
    let url = broker.url();
    match broker.kind() {
        Kind::Redis => {
            let (read, after) = redis::page(url, place, mem::take(&mut mark.redis)).await;
            mark.redis = after;
            read
        }
        Kind::RabbitMq => Rabbit::at(url).await.page(place).await,
        Kind::Kafka => {
            let (read, next) = kafka::page(url, place, mark.kafka).await;
            mark.kafka = next;
            read
        }
    }
}

/// How many events are at a place.
pub(crate) async fn count(broker: &Contact, place: &str) -> u64 {
    let url = broker.url();
    match broker.kind() {
        Kind::Redis => redis::command(url, &["XLEN", place]).await,
        Kind::RabbitMq => Rabbit::at(url).await.count(place).await as u64,
        Kind::Kafka => kafka::count(url, place).await,
    }
}

impl Arrived {
    /// The event's id.
    pub(crate) fn id(&self) -> &str {
        self.attributes.get("id").map_or("", String::as_str)
    }

    /// Enters a header; those of attributes begin with `prefix`.
    fn header(&mut self, prefix: &str, name: &str, value: &[u8]) {
        let value = String::from_utf8(value.to_vec()).unwrap();
        let known = match name.strip_prefix(prefix) {
            Some(attribute) => self.attributes.insert(attribute.to_owned(), value),
            None if name == "content-type" => self.attributes.insert("datacontenttype".to_owned(), value),
            None => self.proof.insert(name.to_owned(), value),
        };
        assert!(known.is_none(), "`{name}` stands there twice");
    }
}
