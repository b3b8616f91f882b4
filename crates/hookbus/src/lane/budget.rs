//! How much a lane holds, in events and in bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::metrics::Pending;

/// What a lane may hold of one kind: of what requests wait for, or of the journal.
#[derive(Debug)]
pub(super) struct Budget {
    max_events: usize,
    max_bytes: usize,
    events: AtomicUsize,
    bytes: AtomicUsize,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self { max_events, max_bytes, events: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Takes room for an event of so many bytes, or nothing. An empty lane takes an event of any size.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        // Count first and look then: two callers may both be refused at the edge, but never both be let in.
        let events = self.events.fetch_add(1, Ordering::AcqRel);
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let charge = Charge { budget: Arc::clone(self), bytes };
        let fits =
            events < self.max_events && (before == 0 || before.saturating_add(bytes) <= self.max_bytes);
        fits.then_some(charge)
    }

    /// Counts an event that is there already, whatever room is left.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Charge {
        self.events.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Charge { budget: Arc::clone(self), bytes }
    }

    /// The events and bytes there is room for, if there is any.
    pub(super) fn room(&self) -> Option<(usize, usize)> {
        let events = self.max_events.saturating_sub(self.events.load(Ordering::Acquire));
        let bytes = self.max_bytes.saturating_sub(self.bytes.load(Ordering::Acquire));
        (events > 0 && bytes > 0).then_some((events, bytes))
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.events.load(Ordering::Acquire) == 0
    }

    /// What is charged now. Since when the oldest is, nobody knows here.
    pub(super) fn pending(&self) -> Pending {
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) as u64;
        Pending { events: read(&self.events), bytes: read(&self.bytes), oldest: None }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.events.fetch_sub(1, Ordering::AcqRel);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_by_events_or_by_bytes() {
        let budget = Arc::new(Budget::new(2, 100));
        let first = budget.charge(60).unwrap();
        assert!(budget.charge(60).is_none());
        assert_eq!(budget.room(), Some((1, 40)));
        let second = budget.charge(40).unwrap();
        assert!(budget.charge(0).is_none());
        assert_eq!(budget.room(), None);
        drop((first, second));
        assert!(budget.is_empty());
        assert!(budget.charge(1_000).is_some(), "an event larger than the budget still goes, alone");
        assert!(budget.charge(100).is_some());
    }

    #[test]
    fn what_is_there_already_counts_however_full_it_is() {
        let budget = Arc::new(Budget::new(1, 100));
        let held = [budget.hold(80), budget.hold(80)];
        assert_eq!(budget.room(), None);
        drop(held);
        assert_eq!(budget.room(), Some((1, 100)));
    }
}
