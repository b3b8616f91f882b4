//! A sink on its stand: published to like by a lane, and what it says compared with what arrived.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    future::Future,
    time::Duration,
};

use hookbus_core::{
    Address, Batch, Capabilities, Envelope, Instant, Outcome, Probe, Report, Sink, SinkError,
};
use tokio::time::{sleep, timeout_at};

use crate::{Fixture, Observed, Skip, TestEvent};

/// The deadline of calls that cannot succeed: short, as it is waited for.
const HASTE: Duration = Duration::from_secs(1);
/// Between two looks at something that takes its time.
const PAUSE: Duration = Duration::from_millis(20);

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

    /// Publishes until everything is delivered, as a lane does: in order, within what the sink takes, and no event of
    /// a group before the earlier ones are resolved. Returns how many events were published more than once.
    pub(crate) async fn deliver(&self, envelopes: &[Envelope]) -> usize {
        let (until, mut left, mut again) = (self.late(), envelopes.to_vec(), 0);
        while !left.is_empty() {
            let batch = self.batch(&mut left);
            // Not all of the time for one try: it may be spent on a connection that is dead.
            let deadline = until.min(Instant::now() + self.fixture.patience() / 4);
            let outcomes = self.publish(&batch, deadline).await;
            let unresolved = unresolved(&batch, &outcomes);
            if let Some((_, error)) = unresolved.first() {
                assert!(Instant::now() < until, "{} events could not be delivered: {error}", left.len() + 1);
                sleep(PAUSE).await;
            }
            again += unresolved.len();
            left.splice(0..0, unresolved.into_iter().map(|(envelope, _)| envelope));
        }
        again
    }

    /// Takes the next batch out of what is left.
    pub(crate) fn batch(&self, left: &mut Vec<Envelope>) -> Vec<Envelope> {
        let (mut bytes, mut groups) = (0, HashSet::new());
        let (mut batch, mut rest): (Vec<Envelope>, Vec<Envelope>) = Default::default();
        for envelope in left.drain(..) {
            let size = envelope.event.body().len();
            let fits = batch.len() < self.capabilities.batch_events()
                && (batch.is_empty() || bytes + size <= self.capabilities.batch_bytes());
            let waits = envelope.group().is_some_and(|group| {
                // In a group nothing overtakes: once one waits, those behind it do.
                let is_second = !groups.insert(group);
                is_second && !self.capabilities.takes_prefix()
            });
            if fits && !waits && rest.iter().all(|left: &Envelope| !same_group(left, &envelope)) {
                bytes += size;
                batch.push(envelope);
            } else {
                rest.push(envelope);
            }
        }
        *left = rest;
        batch
    }

    /// All that is at the addresses of these events, once each of them has arrived at its own.
    pub(crate) async fn arrived(&self, envelopes: &[Envelope]) -> Vec<Observed> {
        let until = self.late();
        loop {
            let there = self.there(envelopes).await;
            let missing: Vec<_> = envelopes.iter().filter(|sent| !has(&there, sent)).collect();
            if missing.is_empty() {
                return there.into_values().flatten().collect();
            }
            assert!(
                Instant::now() < until,
                "{} of {} events never arrived where they should, first {}",
                missing.len(),
                envelopes.len(),
                missing[0].event.id()
            );
            sleep(PAUSE).await;
        }
    }

    /// The same, each exactly once, with nothing changed.
    pub(crate) async fn arrived_once(&self, envelopes: &[Envelope]) -> Vec<Observed> {
        let there = self.arrived(envelopes).await;
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        there.iter().for_each(|observed| *count.entry(observed.id()).or_default() += 1);
        for envelope in envelopes {
            let id = envelope.event.id().as_str();
            assert_eq!(count[id], 1, "how often `{id}` arrived");
            let found = there.iter().find(|observed| observed.id() == id).expect("it was just counted");
            assert_same(found, &envelope.event);
        }
        there
    }

    /// All that is at the addresses of these events now.
    pub(crate) async fn there(&self, envelopes: &[Envelope]) -> BTreeMap<Address, Vec<Observed>> {
        let addresses: BTreeSet<_> = envelopes.iter().map(|envelope| &envelope.address).collect();
        let mut there = BTreeMap::new();
        for address in addresses {
            there.insert(address.clone(), self.fixture.read(address).await);
        }
        there
    }

    /// Holds what was said of events against what is there: delivered is there, and what certainly did not arrive
    /// is not. Returns those that are unresolved, which must not have been rejected.
    pub(crate) async fn checked(&self, envelopes: &[Envelope], outcomes: &[Outcome]) -> Vec<Envelope> {
        let said = || envelopes.iter().zip(outcomes);
        let delivered = said().filter(|(_, outcome)| is_delivered(outcome));
        self.arrived(&delivered.map(|(envelope, _)| envelope.clone()).collect::<Vec<_>>()).await;
        let there = self.there(envelopes).await;
        for (envelope, outcome) in said() {
            let certain = matches!(outcome, Outcome::Retry { maybe_delivered: false, .. });
            assert!(
                !(certain && has(&there, envelope)),
                "`{}` is there, but it was said to be certainly not delivered: {outcome:?}",
                envelope.event.id()
            );
        }
        unresolved(envelopes, outcomes).into_iter().map(|(envelope, _)| envelope).collect()
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

impl<F> fmt::Debug for Stand<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stand")
    }
}

fn same_group(one: &Envelope, other: &Envelope) -> bool {
    one.group().is_some() && one.group() == other.group()
}

/// Whether an event is at its own address.
pub(crate) fn has(there: &BTreeMap<Address, Vec<Observed>>, envelope: &Envelope) -> bool {
    let at = there.get(&envelope.address);
    at.is_some_and(|at| at.iter().any(|observed| observed.id() == envelope.event.id().as_str()))
}

pub(crate) fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

/// The events that want another try, with what was said of them.
fn unresolved(envelopes: &[Envelope], outcomes: &[Outcome]) -> Vec<(Envelope, SinkError)> {
    let said = envelopes.iter().zip(outcomes);
    let unresolved = said.filter_map(|(envelope, outcome)| match outcome {
        Outcome::Delivered { .. } => None,
        Outcome::Retry { error, .. } => Some((envelope.clone(), error.clone())),
        outcome => panic!("`{}` was refused for good: {outcome:?}", envelope.event.id()),
    });
    unresolved.collect()
}

/// Compares what arrived with what was sent.
pub(crate) fn assert_same(found: &Observed, sent: &hookbus_core::VerifiedEvent) {
    let expected = Observed::of(sent);
    assert_eq!(found.attributes, expected.attributes, "attributes of `{}`", sent.id());
    let sorted = |observed: &Observed| {
        let mut proof = observed.proof.clone();
        proof.sort();
        proof
    };
    assert_eq!(sorted(found), sorted(&expected), "proof headers of `{}`", sent.id());
    assert!(
        found.body == expected.body,
        "the body of `{}` changed:\n{found:?}\nshould be\n{expected:?}",
        sent.id()
    );
}
