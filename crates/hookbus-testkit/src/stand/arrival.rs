//! What arrived, held against what was sent and what was said.

use std::collections::{BTreeMap, BTreeSet};

use hookbus_core::{Address, Envelope, Instant, Outcome, VerifiedEvent};

use super::{Stand, is_delivered, pause, unresolved};
use crate::{Fixture, Observed};

/// What is at some addresses, in the order of the destination.
pub(crate) type There = BTreeMap<Address, Vec<Observed>>;

impl<F: Fixture> Stand<F> {
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
            pause().await;
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
    pub(crate) async fn there(&self, envelopes: &[Envelope]) -> There {
        let addresses: BTreeSet<_> = envelopes.iter().map(|envelope| &envelope.address).collect();
        let mut there = There::new();
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
}

/// Whether an event is at its own address.
pub(crate) fn has(there: &There, envelope: &Envelope) -> bool {
    let at = there.get(&envelope.address);
    at.is_some_and(|at| at.iter().any(|observed| observed.id() == envelope.event.id().as_str()))
}

/// Compares what arrived with what was sent.
fn assert_same(found: &Observed, sent: &VerifiedEvent) {
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
