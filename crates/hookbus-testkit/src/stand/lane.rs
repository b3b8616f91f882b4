//! Feeds a sink as a lane does.

use std::collections::HashSet;

use hookbus_core::{Envelope, Instant};

use super::{Stand, pause, unresolved};
use crate::Fixture;

impl<F: Fixture> Stand<F> {
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
                pause().await;
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
}

fn same_group(one: &Envelope, other: &Envelope) -> bool {
    one.group().is_some() && one.group() == other.group()
}
