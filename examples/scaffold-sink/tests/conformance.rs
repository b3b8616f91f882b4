//! The sink keeps the contract of sinks: the conformance kit, against a scaffold behind a fault proxy.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod scaffold;

use hookbus::core::{Address, Envelope};
use hookbus_testkit::{FaultProxy, Fixture, Observed, Skip, address, async_trait, sink_conformance};
use scaffold::{FakeScaffold, LONGEST};
use scaffold_sink::Scaffold;

struct ScaffoldFixture {
    scaffold: FakeScaffold,
    proxy: FaultProxy,
}

#[async_trait]
impl Fixture for ScaffoldFixture {
    type Plugin = Scaffold;

    async fn start() -> Result<Self, Skip> {
        let scaffold = FakeScaffold::start().await;
        let proxy = FaultProxy::start(scaffold.address).await.unwrap();
        Ok(Self { scaffold, proxy })
    }

    fn config(&self) -> String {
        format!("address = '{}'\n", self.proxy.address())
    }

    // A scaffold has no topics: all events go to the one place it is.
    async fn address(&self, _: usize) -> Address {
        address::<Scaffold>(&[])
    }

    async fn read(&self, _: &Address) -> Vec<Observed> {
        let lines = self.scaffold.lines();
        lines.iter().map(|line| Observed::from_structured(line.as_bytes()).unwrap()).collect()
    }

    fn proxy(&self) -> Result<&FaultProxy, Skip> {
        Ok(&self.proxy)
    }

    // The limit is one of whole lines; what is not body is as long as in `like`.
    fn largest_body(&self, like: &Envelope) -> Result<usize, Skip> {
        let mut line = Vec::new();
        like.event.write_structured(&mut line);
        let around = line.len() - like.event.body().len();
        Ok(LONGEST - around)
    }

    async fn gone(&self) -> Result<(), Skip> {
        self.scaffold.stop().await;
        Ok(())
    }

    async fn back(&self) {
        self.scaffold.start_again().await;
    }
}

sink_conformance!(ScaffoldFixture);
