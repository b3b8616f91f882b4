//! The byte budget: bodies draw on it in steps as they arrive, before they are kept.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bodies take room in steps of so many bytes.
pub(super) const STEP: usize = 64 << 10;

/// Room for bodies of all requests together.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    limit: usize,
    used: AtomicUsize,
}

/// One source's part of the budget, a quarter.
///
/// Bodies longer than a step may use half of it. The other half is for first steps, so that a few slow large bodies
/// leave room for many small ones.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<ByteBudget>,
    limit: usize,
    first: AtomicUsize,
    further: AtomicUsize,
}

/// What one body holds of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    share: Arc<Share>,
    first: usize,
    further: usize,
}

/// There is no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl ByteBudget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    pub(super) fn share(self: &Arc<Self>) -> Arc<Share> {
        let limit = (self.limit / 4).max(2 * STEP);
        Arc::new(Share {
            budget: Arc::clone(self),
            limit,
            first: AtomicUsize::new(0),
            further: AtomicUsize::new(0),
        })
    }
}

impl Share {
    /// A reservation of nothing yet.
    pub(super) fn reserve(self: &Arc<Self>) -> Reservation {
        Reservation { share: Arc::clone(self), first: 0, further: 0 }
    }
}

impl Reservation {
    /// Makes room for a body of `total` bytes so far, in whole steps.
    pub(super) fn cover(&mut self, total: usize) -> Result<(), Exhausted> {
        while self.first + self.further < total {
            let share = &self.share;
            let half = share.limit / 2;
            let is_first = self.first == 0;
            let (counter, limit) =
                if is_first { (&share.first, share.limit - half) } else { (&share.further, half) };
            take(counter, STEP, limit)?;
            if let Err(full) = take(&share.budget.used, STEP, share.budget.limit) {
                counter.fetch_sub(STEP, Ordering::AcqRel);
                return Err(full);
            }
            *(if is_first { &mut self.first } else { &mut self.further }) += STEP;
        }
        Ok(())
    }

    /// Bytes reserved.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.first + self.further
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.share.first.fetch_sub(self.first, Ordering::AcqRel);
        self.share.further.fetch_sub(self.further, Ordering::AcqRel);
        self.share.budget.used.fetch_sub(self.first + self.further, Ordering::AcqRel);
    }
}

fn take(counter: &AtomicUsize, amount: usize, limit: usize) -> Result<(), Exhausted> {
    let grown = |used: usize| used.checked_add(amount).filter(|used| *used <= limit);
    counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, grown).map(|_| ()).map_err(|_| Exhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        // A quarter of 16 steps is 4: two for first steps, two for further ones.
        let share = ByteBudget::new(16 * STEP).share();
        let mut large = share.reserve();
        assert_eq!(large.cover(3 * STEP), Ok(()));
        assert_eq!(large.cover(3 * STEP + 1), Err(Exhausted));
        assert_eq!(large.held(), 3 * STEP);
        let mut small = share.reserve();
        assert_eq!(small.cover(1), Ok(()));
        assert_eq!(share.reserve().cover(1), Err(Exhausted));
        drop(large);
        assert_eq!(share.reserve().cover(3 * STEP), Ok(()));
    }

    #[test]
    fn all_sources_together_stay_within_the_budget() {
        let budget = ByteBudget::new(4 * STEP);
        let (one, two) = (budget.share(), budget.share());
        let mut held: Vec<_> = [&one, &one, &two, &two].map(|share| share.reserve()).into();
        // Shares are at least two steps: one first, one further.
        assert_eq!(held[0].cover(2 * STEP), Ok(()));
        assert_eq!(held[2].cover(2 * STEP), Ok(()));
        assert_eq!(budget.share().reserve().cover(1), Err(Exhausted));
        held.clear();
        assert_eq!(budget.used.load(Ordering::Acquire), 0);
        assert_eq!(two.reserve().cover(1), Ok(()));
    }
}
