//! The sink keeps the contract of sinks: the conformance kit, against a collector behind a fault proxy.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod collector;

use collector::{FakeCollector, LONGEST};
use custom_sink::Collector;
use hookbus::core::{Address, Envelope};
use hookbus_testkit::{FaultProxy, Fixture, Observed, Skip, address, async_trait, sink_conformance};

struct CollectorFixture {
    collector: FakeCollector,
    proxy: FaultProxy,
}

#[async_trait]
impl Fixture for CollectorFixture {
    type Plugin = Collector;

    async fn start() -> Result<Self, Skip> {
        let collector = FakeCollector::start().await;
        let proxy = FaultProxy::start(collector.address).await.unwrap();
        Ok(Self { collector, proxy })
    }

    fn config(&self) -> String {
        format!("address = '{}'\n", self.proxy.address())
    }

    // A collector has no topics: all events go to the one place it is.
    async fn address(&self, _: usize) -> Address {
        address::<Collector>(&[])
    }

    async fn read(&self, _: &Address) -> Vec<Observed> {
        let lines = self.collector.lines();
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
        self.collector.stop().await;
        Ok(())
    }

    async fn back(&self) {
        self.collector.start_again().await;
    }
}

sink_conformance!(CollectorFixture);
