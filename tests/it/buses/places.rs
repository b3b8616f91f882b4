//! A place on each bus, and a bridge with one route to all of them.

use std::{
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use hookbus_brokers::{Contact, Kind, shared};
use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

use super::consumer::Consumer;
use crate::support::{
    Bridge, Provider,
    bus::{kafka, rabbitmq::Rabbit, redis},
};

/// A stream, a queue behind an exchange, and a topic, all of one name that nobody else has.
pub(super) struct Places {
    pub(super) buses: [Contact; 3],
    pub(super) name: String,
}

impl Places {
    /// Makes them on the brokers that all tests share; nothing, where one is missing.
    pub(super) async fn make() -> Option<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let buses = [shared(Kind::Redis)?, shared(Kind::RabbitMq)?, shared(Kind::Kafka)?];
        let name = format!("buses-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let rabbit = Rabbit::at(buses[1].url()).await;
        rabbit.exchange(&name).await;
        rabbit.queue(&name).await;
        for provider in Provider::ALL {
            rabbit.bind(&name, &name, &format!("hooks.{}", provider.name())).await;
        }
        kafka::create(buses[2].url(), &name, &[]).await;
        Some(Self { buses, name })
    }

    /// A bridge with one route to all three.
    pub(super) async fn bridge(&self) -> Bridge {
        self.bridge_with("", "").await
    }

    /// The same, with these keys of each source and each destination.
    pub(super) async fn bridge_with(&self, source: &str, destination: &str) -> Bridge {
        let form = if destination.is_empty() { String::new() } else { format!(", {destination}") };
        let ([redis, rabbitmq, kafka], name) = (self.buses.each_ref().map(Contact::address), &self.name);
        let sources = Provider::ALL.map(|provider| {
            format!(
                r#"[sources.{0}]
provider = "{0}"
secrets = [{{ file = "{0}.secret" }}]
ack = "sinks"
ack-timeout = "30s"
{source}
"#,
                provider.name()
            )
        });
        Bridge::start_with(&format!(
            r#"[server]
listen = "127.0.0.1:0"
limits = {{ connections-per-address = 1024 }}
{}
[sinks.streams]
type = "redis"
url = "redis://{redis}"
[sinks.queues]
type = "rabbitmq"
url = "amqp://{rabbitmq}"
[sinks.topics]
type = "kafka"
brokers = ["{kafka}"]
[[routes]]
name = "everywhere"
to = [
    {{ sink = "streams", stream = "{name}"{form} }},
    {{ sink = "queues", exchange = "{name}", routing-key = "hooks.{{source}}"{form} }},
    {{ sink = "topics", topic = "{name}"{form} }},
]
"#,
            sources.concat()
        ))
        .await
    }

    /// Somebody who reads one of them and knows the secrets.
    pub(super) fn consumer<'a>(&'a self, bus: &'a Contact) -> Consumer<'a> {
        Consumer { bus, place: &self.name, group: "readers", secret: Provider::secret }
    }

    /// Takes them away again.
    pub(super) async fn remove(self) {
        let ([stream, queue, topic], name) = (self.buses.each_ref().map(Contact::url), &*self.name);
        redis::command::<u64>(stream, &["DEL", name]).await;
        let connection = Connection::connect(queue, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
        channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", topic).create().unwrap();
        let removed = admin.delete_topics(&[name], &AdminOptions::new()).await.unwrap();
        assert!(removed.iter().all(Result::is_ok), "{removed:?}");
    }
}
