//! A sink on its stand: published to like by a lane, and what it says compared with what arrived.

mod arrival;
mod lane;

use std::{future::Future, time::Duration};

use hookbus_core::{
    Address, Batch, Capabilities, Envelope, Instant, Outcome, Probe, Report, Sink, SinkError,
};
use tokio::time::timeout_at;

pub(crate) use arrival::has;

use crate::{Fixture, Skip, TestEvent};

/// The deadline of calls that cannot succeed: short, as it is waited for.
const HASTE: Duration = Duration::from_secs(1);

/// A destination and one sink for it.
pub(crate) struct Stand<F> {
    pub(crate) fixture: F,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) capabilities: Capabilities,
}

impl<F: Fixture> Stand<F> {
    pub(crate) async fn start() -> Result<Self, Skip> {
        Ok(Self::of(F::start().await?).await)
    }

    pub(crate) async fn of(fixture: F) -> Self {
        let sink = fixture.sink().await;
        let capabilities = sink.capabilities();
        Self { fixture, sink, capabilities }
    }

    /// When a call that should succeed has to.
    pub(crate) fn late(&self) -> Instant {
        Instant::now() + self.fixture.patience()
    }

    /// When a call that cannot succeed is over.
    pub(crate) fn soon(&self) -> Instant {
        Instant::now() + HASTE.min(self.fixture.patience())
    }

    /// Waits for a call of the sink that has a deadline. Lanes drop it soon after; here it has much more time,
    /// because machines are busy, but not for ever.
    pub(crate) async fn by<T>(&self, what: &str, deadline: Instant, call: impl Future<Output = T>) -> T {
        match timeout_at(deadline + self.fixture.patience(), call).await {
            Ok(done) => done,
            Err(_) => panic!("{what} went on long after its deadline"),
        }
    }

    pub(crate) async fn probe(&self, target: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        self.by("a probe", deadline, self.sink.probe(target, deadline)).await
    }

    /// Publishes one batch, and returns what became of each event.
    pub(crate) async fn publish(&self, envelopes: &[Envelope], deadline: Instant) -> Vec<Outcome> {
        let (batch, report) = (Batch::new(envelopes), Report::new(envelopes.len()));
        self.by("a publish", deadline, self.sink.publish(&batch, &report, deadline)).await;
        report.outcomes().collect()
    }

    /// How many events a batch has that a fault hits.
    pub(crate) fn window(&self) -> usize {
        self.capabilities.batch_events().min(24)
    }

    /// So many new events for this address.
    pub(crate) fn windowful(&self, address: &Address, name: &str) -> Vec<Envelope> {
        self.events(address, name, self.window())
    }

    /// New events for this address, each of a name that begins like this.
    pub(crate) fn events(&self, address: &Address, name: &str, count: usize) -> Vec<Envelope> {
        let event = |n| TestEvent::new("fastpix").id(format!("{name}-{n}")).build();
        (0..count).map(|n| Envelope::new(event(n), address.clone())).collect()
    }

    /// The same, spread over so many groups in turn.
    pub(crate) fn grouped(
        &self,
        address: &Address,
        name: &str,
        count: usize,
        groups: usize,
    ) -> Vec<Envelope> {
        let event = |n: usize| {
            let subject = format!("{name}-subject-{}", n % groups);
            TestEvent::new("fastpix").id(format!("{name}-{n}")).subject(subject).build()
        };
        let group = |n: usize| (n % groups) as u64;
        (0..count).map(|n| Envelope::new(event(n), address.clone()).in_group(group(n))).collect()
    }
}

pub(crate) fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

/// The events that want another try, with what was said of them.
pub(crate) fn unresolved(envelopes: &[Envelope], outcomes: &[Outcome]) -> Vec<(Envelope, SinkError)> {
    let said = envelopes.iter().zip(outcomes);
    let unresolved = said.filter_map(|(envelope, outcome)| match outcome {
        Outcome::Delivered { .. } => None,
        Outcome::Retry { error, .. } => Some((envelope.clone(), error.clone())),
        outcome => panic!("`{}` was refused for good: {outcome:?}", envelope.event.id()),
    });
    unresolved.collect()
}

/// Between two looks at something that takes its time. What is waited for is looked at; this only spares the machine.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
