//! A RabbitMQ as tests see it: names of their own, and what arrived, read around the sink.
#![allow(dead_code, reason = "each test target uses its part")]

use std::{
    collections::BTreeMap,
    process,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use hookbus_core::{Address, Batch, Envelope, Instant, Outcome, Report, Sink, SinkContext, SinkPlugin as _};
use hookbus_rabbitmq::RabbitMq;
use hookbus_testkit::{Observed, TestEvent, address};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

/// Nothing a test waits for takes longer, on a busy machine either.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A connection beside the sink, with names that no other test has. Queues go with the names.
pub(crate) struct Rabbit {
    pub(crate) channel: Channel,
    connection: Connection,
    prefix: String,
}

impl Rabbit {
    pub(crate) async fn at(url: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let prefix = format!("hookbus-test-{}-{}", process::id(), COUNT.fetch_add(1, Relaxed));
        Self { channel, connection, prefix }
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(crate) async fn queue(&self, name: &str) {
        self.queue_with(name, FieldTable::default()).await;
    }

    pub(crate) async fn queue_with(&self, name: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.channel.queue_declare(name.into(), options, arguments).await.unwrap();
    }

    pub(crate) async fn exchange(&self, name: &str, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        self.channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.unwrap();
    }

    pub(crate) async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let (queue, exchange) = (queue.into(), exchange.into());
        let options = QueueBindOptions::default();
        self.channel.queue_bind(queue, exchange, key.into(), options, FieldTable::default()).await.unwrap();
    }

    pub(crate) async fn delete_exchange(&self, name: &str) {
        self.channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }

    pub(crate) async fn delete_queue(&self, name: &str) {
        self.channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// How many messages are in a queue.
    pub(crate) async fn length(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
        queue.message_count()
    }

    /// Takes everything out of a queue.
    pub(crate) async fn take(&self, queue: &str) -> Vec<Observed> {
        let mut taken = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = self.channel.basic_get(queue.into(), options).await.unwrap() {
            taken.push(observed(&message.properties, &message.data));
        }
        taken
    }

    /// Takes everything out of a queue, as often as each id is there.
    pub(crate) async fn count(&self, queue: &str) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for observed in self.take(queue).await {
            *count.entry(observed.id().to_owned()).or_default() += 1;
        }
        count
    }
}

/// A message as an event.
pub(crate) fn observed(properties: &BasicProperties, body: &[u8]) -> Observed {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => text.as_bytes().to_vec(),
        other => panic!("a header is {other:?}"),
    };
    let (mut attributes, mut proof) = (BTreeMap::new(), Vec::new());
    for (name, value) in properties.headers().as_ref().unwrap().inner() {
        match name.as_str().strip_prefix("ce-") {
            Some(attribute) => {
                attributes.insert(attribute.to_owned(), String::from_utf8(text(value)).unwrap());
            }
            None => proof.push((name.as_str().to_owned(), text(value))),
        }
    }
    if let Some(content_type) = properties.content_type() {
        attributes.insert("datacontenttype".to_owned(), content_type.as_str().to_owned());
    }
    let encoding = properties.content_encoding().as_ref().map(|encoding| encoding.as_str());
    assert_eq!(encoding, attributes.get("contentencoding").map(String::as_str));
    assert_eq!(*properties.delivery_mode(), Some(2));
    Observed { attributes, proof, body: body.to_vec().into() }
}

/// The queue of this name, by the default exchange.
pub(crate) fn to_queue(queue: &str) -> Address {
    address::<RabbitMq>(&[("routing-key", queue)])
}

pub(crate) fn to_exchange(exchange: &str, key: &str) -> Address {
    address::<RabbitMq>(&[("exchange", exchange), ("routing-key", key)])
}

/// A sink with these keys.
pub(crate) async fn sink(config: &str) -> Box<dyn Sink> {
    let config = toml::from_str(config).unwrap();
    RabbitMq::validate(&config).unwrap();
    RabbitMq::connect(config, SinkContext::new("bus", "")).await.unwrap()
}

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

pub(crate) fn event(id: impl Into<String>, address: &Address) -> Envelope {
    Envelope::new(TestEvent::new("fastpix").id(id).build(), address.clone())
}

/// Publishes a batch.
pub(crate) async fn publish(sink: &dyn Sink, envelopes: Vec<Envelope>, deadline: Instant) -> Vec<Outcome> {
    let report = Report::new(envelopes.len());
    sink.publish(&Batch::new(envelopes), &report, deadline).await;
    report.outcomes().collect()
}

/// An outcome in a word: `delivered`, or the kind of its error behind `retry`, `maybe` or `rejected`.
pub(crate) fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered { .. } => "delivered".to_owned(),
        Outcome::Retry { error, maybe_delivered: false, .. } => format!("retry {}", error.kind().as_str()),
        Outcome::Retry { error, .. } => format!("maybe {}", error.kind().as_str()),
        Outcome::Rejected { error, .. } => format!("rejected {}", error.kind().as_str()),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn words(outcomes: &[Outcome]) -> Vec<String> {
    outcomes.iter().map(word).collect()
}
