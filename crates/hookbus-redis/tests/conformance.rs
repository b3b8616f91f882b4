//! The conformance kit, against a real Redis.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Mutex;

use hookbus_brokers::{Access, Broker, Kind, Options, PASSWORD, USER, private};
use hookbus_core::{Address, Envelope};
use hookbus_redis::Redis;
use hookbus_testkit::{FaultProxy, Fixture, Observed, Skip, address, async_trait};
use redis::Value;
use tempfile::TempDir;

/// The longest string the server takes, the least that it can be told.
const LARGEST: usize = 1 << 20;

/// A Redis of its own: it is up in a moment, and may be killed.
struct RedisFixture {
    broker: Mutex<Broker>,
    proxy: FaultProxy,
    folder: TempDir,
}

impl RedisFixture {
    async fn command(&self, words: &[&str]) -> Value {
        let url = self.broker.lock().unwrap().url().to_owned();
        let mut connection =
            redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::Cmd::new();
        command.arg(words).query_async(&mut connection).await.unwrap()
    }
}

fn stream(address: &Address) -> &str {
    address.get("stream").unwrap()
}

#[async_trait]
impl Fixture for RedisFixture {
    type Plugin = Redis;

    async fn start() -> Result<Self, Skip> {
        let largest = LARGEST.to_string();
        let options = Options::secured()
            .set("appendonly", "yes")
            .set("appendfsync", "always")
            .set("proto-max-bulk-len", &largest);
        let broker = tokio::task::spawn_blocking(move || private(Kind::Redis, &options)).await.unwrap();
        let broker = broker.ok_or_else(|| Skip::new("needs redis"))?;
        let proxy = FaultProxy::start(broker.endpoint(Access::Password).unwrap().address).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        Ok(Self { broker: Mutex::new(broker), proxy, folder })
    }

    fn config(&self) -> String {
        let password = self.folder.path().join("password");
        format!(
            "url = \"redis://{}/0\"\nusername = \"{USER}\"\npassword = {{ file = \"{}\" }}\n",
            self.proxy.address(),
            password.display()
        )
    }

    async fn address(&self, n: usize) -> Address {
        address::<Redis>(&[("stream", &format!("stream-{n}"))])
    }

    async fn read(&self, address: &Address) -> Vec<Observed> {
        if self.command(&["TYPE", stream(address)]).await != Value::SimpleString("stream".into()) {
            return Vec::new();
        }
        let entries = self.command(&["XRANGE", stream(address), "-", "+"]).await;
        let entries: Vec<(String, Vec<(String, Vec<u8>)>)> = redis::from_redis_value(entries).unwrap();
        entries.into_iter().map(|(_, fields)| observed(fields)).collect()
    }

    fn proxy(&self) -> Result<&FaultProxy, Skip> {
        Ok(&self.proxy)
    }

    async fn missing(&self) -> Result<Address, Skip> {
        let key = format!("text-{}", self.proxy.connections());
        self.command(&["SET", &key, "not a stream"]).await;
        Ok(address::<Redis>(&[("stream", &key)]))
    }

    async fn mend(&self, address: &Address) -> Result<(), Skip> {
        self.command(&["DEL", stream(address)]).await;
        Ok(())
    }

    fn largest_body(&self, _: &Envelope) -> Result<usize, Skip> {
        Ok(LARGEST)
    }

    fn secrets(&self) -> Result<Vec<String>, Skip> {
        Ok(vec![PASSWORD.to_owned()])
    }

    async fn gone(&self) -> Result<(), Skip> {
        self.broker.lock().unwrap().kill().unwrap();
        Ok(())
    }

    async fn back(&self) {
        tokio::task::block_in_place(|| self.broker.lock().unwrap().restart().unwrap());
    }
}

/// An entry, as any consumer reads it.
fn observed(fields: Vec<(String, Vec<u8>)>) -> Observed {
    let mut observed =
        Observed { attributes: Default::default(), proof: Vec::new(), body: bytes::Bytes::new() };
    for (name, value) in fields {
        let text = || String::from_utf8(value.clone()).unwrap();
        match name.strip_prefix("ce_") {
            Some(attribute) => {
                observed.attributes.insert(attribute.to_owned(), text());
            }
            None if name == "content-type" => {
                observed.attributes.insert("datacontenttype".to_owned(), text());
            }
            None if name == "data" => observed.body = value.into(),
            None => observed.proof.push((name, value)),
        }
    }
    observed
}

hookbus_testkit::sink_conformance!(RedisFixture);
