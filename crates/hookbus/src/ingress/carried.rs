//! What requests of one configuration leave to those of the next: limits hold over both together.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{
    arriving::Arriving,
    budget::{ByteBudget, Share},
    rates::{Addresses, Taken},
    refusals::Refusals,
};
use crate::config::Limits;

/// Counts and budgets, which outlive a configuration.
#[derive(Debug)]
pub(crate) struct Carried {
    budget: Arc<ByteBudget>,
    pub(super) requests: Arc<Requests>,
    pub(super) arriving: Arc<Arriving>,
    pub(super) addresses: Arc<Addresses>,
    sources: Mutex<HashMap<Arc<str>, OfSource>>,
}

/// What is carried of one source.
#[derive(Clone, Debug)]
pub(super) struct OfSource {
    pub(super) share: Arc<Share>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) taken: Arc<Taken>,
}

/// Authentic requests that are worked on.
#[derive(Debug)]
pub(super) struct Requests {
    limit: AtomicUsize,
    at_work: AtomicUsize,
}

/// A place among them, given up when dropped.
#[derive(Debug)]
pub(super) struct AtWork<'r>(&'r Requests);

impl Carried {
    /// Nothing was counted yet.
    pub(crate) fn new(limits: &Limits) -> Self {
        let requests = Requests { limit: AtomicUsize::new(limits.requests.0), at_work: AtomicUsize::new(0) };
        let budget = ByteBudget::new(limits.in_flight.as_len());
        let addresses = Arc::new(Addresses::new(Instant::now()));
        let (requests, arriving) = (Arc::new(requests), Arriving::new(limits));
        Self { budget, requests, arriving, addresses, sources: Mutex::default() }
    }

    /// These limits hold from now on, for requests that are under way too.
    pub(crate) fn limit(&self, limits: &Limits) {
        self.budget.set_limit(limits.in_flight.as_len());
        self.requests.limit.store(limits.requests.0, Ordering::Relaxed);
        self.arriving.set(limits);
    }

    /// Only these sources are there from now on.
    pub(crate) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).retain(|source, _| is_there(source));
    }

    /// What is carried of a source, from now on where it is new.
    pub(super) fn source(&self, name: &str) -> OfSource {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || OfSource {
            share: self.budget.share(),
            refusals: Arc::new(Refusals::new(name)),
            taken: Arc::new(Taken::new(Instant::now())),
        };
        sources.entry(name.into()).or_insert_with(new).clone()
    }
}

impl Requests {
    /// A place for one more; nothing at the limit.
    pub(super) fn begin(&self) -> Option<AtWork<'_>> {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |at_work: usize| (at_work < limit).then_some(at_work + 1);
        self.at_work.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| AtWork(self))
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    fn limits(requests: usize) -> Limits {
        Limits { requests: requests.try_into().unwrap(), ..Limits::default() }
    }

    #[test]
    fn a_new_limit_counts_what_began_under_the_old_one() {
        let carried = Carried::new(&limits(2));
        let held = [carried.requests.begin(), carried.requests.begin()];
        assert!(held.iter().all(Option::is_some) && carried.requests.begin().is_none());
        carried.limit(&limits(3));
        let third = carried.requests.begin();
        assert!(third.is_some() && carried.requests.begin().is_none());
        carried.limit(&limits(1));
        drop((third, held));
        let _one = carried.requests.begin().unwrap();
        assert!(carried.requests.begin().is_none());
    }

    #[test]
    fn a_source_keeps_its_share_as_long_as_it_is_there() {
        let carried = Carried::new(&limits(1));
        let share = carried.source("a").share;
        assert!(Arc::ptr_eq(&share, &carried.source("a").share));
        carried.keep(|source| source != "a");
        assert!(!Arc::ptr_eq(&share, &carried.source("a").share));
    }
}
