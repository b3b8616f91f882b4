//! How much a lane holds, in events and in bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::metrics::Pending;

/// A lane's budget.
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
        let second = budget.charge(40).unwrap();
        assert!(budget.charge(0).is_none());
        drop((first, second));
        assert!(budget.charge(1_000).is_some(), "an event larger than the budget still goes, alone");
        assert!(budget.charge(100).is_some());
    }
}
