//! A broker of one's own with places on it, and the bridge's configuration for it.

use hookbus_brokers::{Broker, ClaimedDoor, Kind, Options, private};
use hookbus_testkit::FaultProxy;
use tokio::task::spawn_blocking;

use crate::support::{
    Ack,
    bus::{Arrived, Mark, count, kafka, page, rabbitmq::Rabbit, redis},
};

/// A broker, and how the bridge reaches it.
pub(super) struct Stage {
    pub(super) kind: Kind,
    /// None while it is on a thread that may wait.
    broker: Option<Broker>,
    proxy: Option<(FaultProxy, Option<ClaimedDoor>)>,
}

/// A broker's options for tests: what it confirms outlasts its end.
pub(super) fn durable(kind: Kind) -> Options {
    match kind {
        Kind::Redis => Options::default().set("appendonly", "yes").set("appendfsync", "always"),
        // RabbitMQ by its messages and queues, Kafka by every replica that is there.
        Kind::RabbitMq | Kind::Kafka => Options::default(),
    }
}

impl Stage {
    /// Starts a broker; nothing, where it is not installed.
    pub(super) async fn start(kind: Kind, options: Options) -> Option<Self> {
        let broker = spawn_blocking(move || private(kind, &options)).await.unwrap()?;
        Some(Self { kind, broker: Some(broker), proxy: None })
    }

    /// The same, reached through a proxy.
    pub(super) async fn start_behind_proxy(kind: Kind) -> Option<Self> {
        let mut stage = Self::start(kind, durable(kind)).await?;
        let broker = stage.broker();
        stage.proxy = Some(if kind == Kind::Kafka {
            // Its clients go where it says it is.
            let door = broker.claim_door().expect("nobody else has a door of it");
            (FaultProxy::start_at(door.advertised, door.upstream).await.unwrap(), Some(door))
        } else {
            (FaultProxy::start(broker.address()).await.unwrap(), None)
        });
        Some(stage)
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("it is away only during a call that has it to itself")
    }

    /// What stands between the bridge and the broker.
    pub(super) fn proxy(&self) -> &FaultProxy {
        &self.proxy.as_ref().expect("started with one").0
    }

    /// The table of a configuration that is a sink of this name here, with these further keys.
    pub(super) fn sink(&self, name: &str, keys: &str) -> String {
        let address = self.proxy.as_ref().map_or(self.broker().address(), |(proxy, _)| proxy.address());
        let (kind, way) = match self.kind {
            Kind::Redis => ("redis", format!("url = \"redis://{address}\"")),
            Kind::RabbitMq => ("rabbitmq", format!("url = \"amqp://{address}\"")),
            Kind::Kafka => ("kafka", format!("brokers = [\"{address}\"]")),
        };
        format!("[sinks.{name}]\ntype = \"{kind}\"\n{way}\n{keys}\n")
    }

    /// The configuration of a bridge that answers when its sinks have confirmed: a sink `bus` with these further keys,
    /// and a route for each source, of this name, to a destination, of these keys.
    pub(super) fn config(&self, keys: &str, routes: &[(&str, &str)]) -> String {
        self.config_at("127.0.0.1:0", Ack::Sinks, keys, routes)
    }

    /// The same for a bridge that listens here, and answers then.
    pub(super) fn config_at(&self, listen: &str, ack: Ack, keys: &str, routes: &[(&str, &str)]) -> String {
        let sink = self.sink("bus", keys);
        let mut config = format!(
            r#"[server]
listen = "{listen}"
limits = {{ body = "4MiB", connections-per-address = 1024 }}
{sink}"#
        );
        for (source, to) in routes {
            config += &format!(
                r#"[sources.{source}]
provider = "fastpix"
secrets = [{{ file = "fastpix.secret" }}]
ack = "{ack}"
[[routes]]
name = "{source}"
sources = ["{source}"]
to = [{{ sink = "bus", {to} }}]
"#
            );
        }
        config
    }

    /// The keys of a destination.
    pub(super) fn to(&self, name: &str) -> String {
        match self.kind {
            Kind::Redis => format!("stream = \"{name}\""),
            // By the default exchange.
            Kind::RabbitMq => format!("routing-key = \"{name}\""),
            Kind::Kafka => format!("topic = \"{name}\""),
        }
    }

    /// Makes a place of this name, where places have to be made.
    pub(super) async fn make(&self, name: &str) {
        match self.kind {
            Kind::Redis => {}
            Kind::RabbitMq => self.rabbit().await.queue(name).await,
            Kind::Kafka => self.topic(name, &[]).await,
        }
    }

    /// Makes a topic with these settings.
    pub(super) async fn topic(&self, name: &str, settings: &[(&str, &str)]) {
        kafka::create(self.broker().url(), name, settings).await;
    }

    /// A connection to RabbitMQ, around the proxy.
    pub(super) async fn rabbit(&self) -> Rabbit {
        Rabbit::at(self.broker().url()).await
    }

    /// Runs a command of Redis, whose answer does not matter.
    pub(super) async fn redis(&self, words: &[&str]) {
        redis::command::<::redis::Value>(self.broker().url(), words).await;
    }

    /// Everything at a place, around the proxy.
    pub(super) async fn read(&self, name: &str) -> Vec<Arrived> {
        let (mut mark, mut read) = (Mark::default(), Vec::new());
        loop {
            let page = self.page(name, &mut mark).await;
            if page.is_empty() {
                return read;
            }
            read.extend(page);
        }
    }

    /// What has come to a place since this mark, which moves on; nothing where nothing has.
    pub(super) async fn page(&self, name: &str, mark: &mut Mark) -> Vec<Arrived> {
        page(self.broker(), name, mark).await
    }

    /// How many events are at a place.
    pub(super) async fn count(&self, name: &str) -> u64 {
        count(self.broker(), name).await
    }

    /// Kills the broker.
    pub(super) async fn kill(&mut self) {
        self.blocking(Broker::kill).await;
    }

    /// Ends it in order.
    pub(super) async fn stop(&mut self) {
        self.blocking(Broker::stop).await;
    }

    /// Starts it again, with the same data.
    pub(super) async fn restart(&mut self) {
        self.blocking(Broker::restart).await;
    }

    /// Stops it in its tracks.
    pub(super) fn pause(&self) {
        self.broker().pause().unwrap();
    }

    /// Lets it go on.
    pub(super) fn resume(&self) {
        self.broker().resume().unwrap();
    }

    async fn blocking(
        &mut self,
        call: impl FnOnce(&mut Broker) -> hookbus_brokers::Result<()> + Send + 'static,
    ) {
        let mut broker = self.broker.take().expect("one call at a time");
        let (broker, done) = spawn_blocking(move || {
            let done = call(&mut broker);
            (broker, done)
        })
        .await
        .unwrap();
        self.broker = Some(broker);
        done.unwrap();
    }
}
