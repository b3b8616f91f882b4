//! The consumer examples, run as whoever copies them would: each reads its bus with the bus's own client library.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hookbus_brokers::{Contact, Kind};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::support::{PATIENCE, Provider};

/// Where the examples are.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/consumers");

/// A place on a bus, and who reads it.
pub(super) struct Consumer<'a> {
    pub(super) bus: &'a Contact,
    /// The stream, the queue or the topic.
    pub(super) place: &'a str,
    /// The consumer group, where the bus has such.
    pub(super) group: &'a str,
    /// What it believes to be the secrets.
    pub(super) secret: fn(Provider) -> hookbus_core::Secret,
}

/// An event as the client library shows it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Consumed {
    pub(super) position: String,
    /// The key of a record.
    pub(super) key: Option<String>,
    /// The properties of a message.
    #[serde(default)]
    pub(super) properties: BTreeMap<String, Value>,
    /// Fields of an entry but the body, headers of a record, or the headers table of a message.
    pub(super) headers: Vec<(String, String)>,
    #[serde(deserialize_with = "base64")]
    pub(super) body: Vec<u8>,
    /// Whether it could verify the signature again.
    pub(super) authentic: bool,
    pub(super) duplicate: bool,
}

fn base64<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(input)?).map_err(serde::de::Error::custom)
}

impl Consumer<'_> {
    /// Reads until there is nothing more, and shows each event to `each`.
    pub(super) async fn read(&self, each: impl FnMut(Consumed)) {
        self.run(&["--until-idle"], each).await;
    }

    /// All there is.
    pub(super) async fn all(&self) -> Vec<Consumed> {
        self.collect(&["--until-idle"]).await
    }

    /// The next so many.
    pub(super) async fn next(&self, count: usize) -> Vec<Consumed> {
        self.collect(&["--count", &count.to_string()]).await
    }

    async fn collect(&self, until: &[&str]) -> Vec<Consumed> {
        let mut all = Vec::new();
        self.run(until, |consumed| all.push(consumed)).await;
        all
    }

    async fn run(&self, until: &[&str], mut each: impl FnMut(Consumed)) {
        let mut command = self.command();
        command.arg("--json").args(until);
        for provider in Provider::ALL {
            let secret = String::from_utf8((self.secret)(provider).expose().to_vec()).unwrap();
            command.env(format!("{}_SECRET", provider.name().to_uppercase()), secret);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let kind = self.bus.kind();
        while let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("it goes on").unwrap() {
            each(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{kind}: {error} in {line}")));
        }
        let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
        assert!(status.success(), "the consumer of {kind} failed: {status}");
    }

    fn command(&self) -> Command {
        let Self { bus, place, group, .. } = self;
        let example = |file: &str| Path::new(EXAMPLES).join(bus.kind().name()).join(file);
        // Debian's packages are for the system's own Python.
        let mut python = Command::new("/usr/bin/python3");
        match bus.kind() {
            Kind::Redis => {
                python.arg(example("consume.py")).args([place, "--group", group]);
                python.env("REDIS_URL", bus.url());
                python
            }
            Kind::RabbitMq => {
                python.arg(example("consume.py")).arg(place).env("AMQP_URL", bus.url());
                python
            }
            Kind::Kafka => {
                let mut java = Command::new("java");
                // For a short run a quick start counts most.
                java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
                java.arg(bus.libs().expect("a broker of ours").join("*")).arg(example("Consume.java"));
                java.args([place, "--group", group]).env("KAFKA_BROKERS", bus.url());
                java
            }
        }
    }
}
