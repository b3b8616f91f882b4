//! The sink keeps its word, with a real broker and everything that may go wrong on the way to it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rabbit;

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use hookbus_brokers::{Contact, Kind, shared};
use hookbus_core::{Address, Envelope};
use hookbus_rabbitmq::RabbitMq;
use hookbus_testkit::{FaultProxy, Fixture, Harvest, Observed, Skip, async_trait};
use lapin::ExchangeKind;
use rabbit::{Rabbit, to_exchange, to_queue};

/// The limit that is tested, far below the broker's own.
const LARGEST: usize = 256 << 10;

struct RabbitFixture {
    rabbit: Rabbit,
    proxy: FaultProxy,
    password: tempfile::NamedTempFile,
    user: String,
    missing: AtomicUsize,
    made: Mutex<HashSet<String>>,
    harvest: Harvest,
}

impl RabbitFixture {
    /// Every other address is the default exchange, where the key is the queue.
    fn of(queue: &str, n: usize) -> Address {
        if n.is_multiple_of(2) { to_queue(queue) } else { to_exchange(queue, "key") }
    }

    /// The exchange has the name of its queue.
    async fn make(&self, address: &Address) {
        let name = address.get("exchange").or(address.get("routing-key")).unwrap();
        self.rabbit.queue(name).await;
        if address.get("exchange").is_some() {
            self.rabbit.exchange(name, ExchangeKind::Direct).await;
            self.rabbit.bind(name, name, "key").await;
        }
        self.made.lock().unwrap().insert(name.to_owned());
    }
}

/// A user of this test process, with a password that looks like nothing else. `guest`, where none can be made.
fn user(broker: &Contact) -> (String, String) {
    static USER: std::sync::OnceLock<(String, String)> = std::sync::OnceLock::new();
    let user = USER.get_or_init(|| {
        let name = format!("hookbus-test-{}", std::process::id());
        let password = format!("p4ssw0rd-{}-of-the-conformance-test", std::process::id());
        let made = broker
            .rabbitmqctl(&["add_user", &name, &password])
            .and_then(|_| broker.rabbitmqctl(&["set_permissions", &name, "", ".*", ""]));
        match made {
            Ok(_) => (name, password),
            Err(_) => ("guest".into(), "guest".into()),
        }
    });
    user.clone()
}

#[async_trait]
impl Fixture for RabbitFixture {
    type Plugin = RabbitMq;

    async fn start() -> Result<Self, Skip> {
        let broker = tokio::task::spawn_blocking(|| {
            let broker = shared(Kind::RabbitMq)?;
            let user = user(&broker);
            Some((broker, user))
        });
        let (broker, (user, secret)) =
            broker.await.unwrap().ok_or_else(|| Skip::new("there is no RabbitMQ here"))?;
        let rabbit = Rabbit::at(broker.url()).await;
        let proxy = FaultProxy::start(broker.address()).await.unwrap();
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&password, secret).unwrap();
        let (missing, made, harvest) = Default::default();
        Ok(Self { rabbit, proxy, password, user, missing, made, harvest })
    }

    fn config(&self) -> String {
        let (proxy, user, password) = (self.proxy.address(), &self.user, self.password.path().display());
        format!(
            "url = 'amqp://{proxy}/%2f'\nusername = '{user}'\npassword = {{ file = '{password}' }}\n\
             max-message-size = '{LARGEST}B'\n"
        )
    }

    async fn address(&self, n: usize) -> Address {
        let address = Self::of(&self.rabbit.name(&format!("there-{n}")), n);
        self.make(&address).await;
        address
    }

    async fn read(&self, address: &Address) -> Vec<Observed> {
        let queue = address.get("exchange").or(address.get("routing-key")).unwrap();
        let is_there = self.made.lock().unwrap().contains(queue);
        let taken = if is_there { self.rabbit.take(queue).await } else { vec![] };
        self.harvest.add(address, taken)
    }

    async fn missing(&self) -> Result<Address, Skip> {
        let n = self.missing.fetch_add(1, Relaxed);
        Ok(Self::of(&self.rabbit.name(&format!("missing-{n}")), n))
    }

    async fn mend(&self, address: &Address) -> Result<(), Skip> {
        self.make(address).await;
        Ok(())
    }

    fn exempt(case: &str) -> Option<&'static str> {
        // `routing::publishes_dropped_beside_others_cost_them_nothing` looks at it.
        (case == "a_dropped_publish_keeps_what_was_confirmed").then_some(
            "the broker may confirm a whole window with one answer, and half an answer says nothing",
        )
    }

    fn proxy(&self) -> Result<&FaultProxy, Skip> {
        Ok(&self.proxy)
    }

    fn largest_body(&self, _: &Envelope) -> Result<usize, Skip> {
        Ok(LARGEST)
    }

    fn secrets(&self) -> Result<Vec<String>, Skip> {
        match self.user.as_str() {
            "guest" => Err(Skip::new("no user can be made at this broker, and `guest` is no secret")),
            _ => Ok(vec![std::fs::read_to_string(&self.password).unwrap()]),
        }
    }
}

hookbus_testkit::sink_conformance!(RabbitFixture);
