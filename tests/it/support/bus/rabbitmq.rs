//! Queues of a RabbitMQ.

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use super::{super::PATIENCE, Arrived, PAGE};

/// A connection beside the bridge's.
pub(crate) struct Rabbit {
    channel: Channel,
    _connection: Connection,
}

impl Rabbit {
    /// Connects.
    pub(crate) async fn at(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        Self { channel: connection.create_channel().await.unwrap(), _connection: connection }
    }

    /// Makes a queue that outlasts the broker's restart.
    pub(crate) async fn queue(&self, name: &str) {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
    }

    /// Makes an exchange that sends by routing key.
    pub(crate) async fn exchange(&self, name: &str) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let none = FieldTable::default();
        self.channel.exchange_declare(name.into(), ExchangeKind::Direct, options, none).await.unwrap();
    }

    /// Lets a queue have what comes with this key.
    pub(crate) async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        self.channel.queue_bind(queue, exchange, key, options, none).await.unwrap();
    }

    /// How many events are in a queue.
    pub(crate) async fn count(&self, queue: &str) -> usize {
        let passive = QueueDeclareOptions { passive: true, durable: true, ..Default::default() };
        let found = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
        found.message_count() as usize
    }

    /// Takes what is at the head of a queue out of it, in its order.
    pub(crate) async fn page(&self, queue: &str) -> Vec<Arrived> {
        let mut left = self.count(queue).await.min(PAGE);
        if left == 0 {
            return Vec::new();
        }
        // No more than that is ever on its way, so that nothing goes back when this ends, and comes late.
        let (prefetch, none) = (u16::try_from(left).unwrap(), FieldTable::default());
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
        let consume =
            self.channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), none);
        let mut messages = consume.await.unwrap();
        let mut taken = Vec::with_capacity(left);
        while left > 0 {
            let message = timeout(PATIENCE, messages.next()).await.expect("there is more").unwrap().unwrap();
            left -= 1;
            if left == 0 {
                let tag = messages.tag();
                self.channel.basic_cancel(tag, BasicCancelOptions::default()).await.unwrap();
                message.ack(BasicAckOptions { multiple: true }).await.unwrap();
                // An acknowledgement has no answer; what is asked behind it has one.
                self.count(queue).await;
            }
            let mut arrived = Arrived { body: message.data.to_vec(), ..Arrived::default() };
            let properties = &message.properties;
            assert_eq!(*properties.delivery_mode(), Some(2), "it would not outlast a restart");
            for (name, value) in properties.headers().as_ref().unwrap().inner() {
                let AMQPValue::LongString(text) = value else { panic!("a header is {value:?}") };
                arrived.header("ce-", name.as_str(), text.as_bytes());
            }
            if let Some(content_type) = properties.content_type() {
                arrived.header("ce-", "content-type", content_type.as_str().as_bytes());
            }
            taken.push(arrived);
        }
        taken
    }
}
