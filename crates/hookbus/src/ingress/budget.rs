//! The byte budget: bodies draw on it in steps as they arrive, before they are kept.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The first step of a body. Most webhooks need no other.
const FIRST: usize = 8 << 10;
/// Each further step.
pub(super) const STEP: usize = 64 << 10;

/// For how many bodies of one source there is a first step, in a budget of `limit`.
pub(super) fn first_steps(limit: usize) -> usize {
    share_of(limit) / 2 / FIRST
}

/// What one source may use of a budget of `limit`.
fn share_of(limit: usize) -> usize {
    (limit / 4).max(2 * STEP)
}

/// Room for bodies of all requests together.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    limit: AtomicUsize,
    used: AtomicUsize,
}

/// One source's part of the budget, a quarter.
///
/// While they arrive, bodies longer than their first step may use half of it. The other half is for first steps, so
/// that slow large bodies leave room for small ones. A body that is complete is charged its own length.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<ByteBudget>,
    /// First steps of bodies that are arriving.
    first: AtomicUsize,
    /// Further steps of bodies that are arriving.
    further: AtomicUsize,
    /// Bodies that are complete.
    complete: AtomicUsize,
}

/// What one body holds of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    share: Arc<Share>,
    first: usize,
    further: usize,
    complete: usize,
}

/// There is no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl ByteBudget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: AtomicUsize::new(limit), used: AtomicUsize::new(0) })
    }

    /// It is so large from now on; what is held stays.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether a budget of `limit` has room for a body of so many bytes at all, in its steps.
    pub(crate) fn takes(limit: usize, body: usize) -> bool {
        body.saturating_sub(FIRST).next_multiple_of(STEP) <= share_of(limit) / 2
    }

    pub(super) fn share(self: &Arc<Self>) -> Arc<Share> {
        let (first, further, complete) = Default::default();
        Arc::new(Share { budget: Arc::clone(self), first, further, complete })
    }
}

impl Share {
    fn limit(&self) -> usize {
        share_of(self.budget.limit())
    }

    /// A reservation of nothing yet.
    pub(super) fn reserve(self: &Arc<Self>) -> Reservation {
        Reservation { share: Arc::clone(self), first: 0, further: 0, complete: 0 }
    }
}

impl Reservation {
    /// Makes room for a body of `total` bytes so far, in whole steps.
    pub(super) fn cover(&mut self, total: usize) -> Result<(), Exhausted> {
        while self.first + self.further < total {
            let share = &self.share;
            let half = share.limit() / 2;
            let (counter, held, step) = match self.first {
                0 => (&share.first, &mut self.first, FIRST),
                _ => (&share.further, &mut self.further, STEP),
            };
            take(counter, step, half)?;
            if let Err(full) = take(&share.budget.used, step, share.budget.limit()) {
                counter.fetch_sub(step, Ordering::AcqRel);
                return Err(full);
            }
            *held += step;
        }
        Ok(())
    }

    /// The body is complete, with so many bytes: from now on it holds its own length, and no step of those that are
    /// arriving. There may be no room left for that, beside all other complete ones.
    pub(super) fn complete(&mut self, bytes: usize) -> Result<(), Exhausted> {
        take(&self.share.complete, bytes, self.share.limit())?;
        let steps = self.first + self.further;
        self.share.first.fetch_sub(std::mem::take(&mut self.first), Ordering::AcqRel);
        self.share.further.fetch_sub(std::mem::take(&mut self.further), Ordering::AcqRel);
        // Steps cover the length, so this only ever gives back.
        self.share.budget.used.fetch_sub(steps.saturating_sub(bytes), Ordering::AcqRel);
        self.complete = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Self { share, first, further, complete } = self;
        share.first.fetch_sub(*first, Ordering::AcqRel);
        share.further.fetch_sub(*further, Ordering::AcqRel);
        share.complete.fetch_sub(*complete, Ordering::AcqRel);
        share.budget.used.fetch_sub(*first + *further + *complete, Ordering::AcqRel);
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
    fn slow_large_bodies_leave_room_for_small_ones() {
        // A quarter of 16 steps is 4: two for first steps, two for further ones.
        let share = ByteBudget::new(16 * STEP).share();
        let mut large: Vec<_> = (0..4).map(|_| share.reserve()).collect();
        let covered = large.iter_mut().filter_map(|body| body.cover(FIRST + 1).ok()).count();
        assert_eq!(covered, 2);
        let mut small: Vec<_> = (0..10).map(|_| share.reserve()).collect();
        assert!(small.iter_mut().all(|body| body.cover(1) == Ok(())));
        drop(large);
        assert_eq!(share.reserve().cover(FIRST + 2 * STEP), Ok(()));
    }

    #[test]
    fn a_complete_body_holds_its_own_length() {
        let budget = ByteBudget::new(16 * STEP);
        let share = budget.share();
        let mut waiting: Vec<_> = (0..200).map(|_| share.reserve()).collect();
        for body in &mut waiting {
            assert_eq!((body.cover(1_000), body.complete(1_000)), (Ok(()), Ok(())));
        }
        assert_eq!(budget.used.load(Ordering::Acquire), 200_000);
        let mut large = share.reserve();
        assert_eq!(
            (large.cover(100_000), large.complete(100_000)),
            (Ok(()), Err(Exhausted)),
            "262,144 is a quarter"
        );
        drop((waiting, large));
        assert_eq!(budget.used.load(Ordering::Acquire), 0);
        assert_eq!(
            [&share.first, &share.further, &share.complete].map(|held| held.load(Ordering::Acquire)),
            [0; 3]
        );
    }

    #[test]
    fn all_sources_together_stay_within_the_budget() {
        let budget = ByteBudget::new(2 * STEP);
        let (one, two) = (budget.share(), budget.share());
        let mut held = [one.reserve(), two.reserve()];
        assert_eq!(held[0].cover(FIRST + 1), Ok(()));
        assert_eq!(held[1].cover(FIRST + 1), Err(Exhausted));
        drop(held);
        assert_eq!(budget.used.load(Ordering::Acquire), 0);
        assert_eq!(two.reserve().cover(1), Ok(()));
    }
}
