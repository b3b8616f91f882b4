//! What the journal counts.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets for the time of an fsync, in microseconds; one more is without bound.
pub const SYNC_BUCKETS: [u64; 12] =
    [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000];
/// Upper bounds of the buckets for the events of a group; one more is without bound.
pub const GROUP_BUCKETS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 512, 2048];

/// Counters since the journal was opened.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) events: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) groups: Buckets<{ GROUP_BUCKETS.len() + 1 }>,
    pub(crate) syncs: Buckets<{ SYNC_BUCKETS.len() + 1 }>,
}

/// A histogram: how many fell into each bucket, and their sum.
#[derive(Debug)]
pub(crate) struct Buckets<const N: usize> {
    counts: [AtomicU64; N],
    sum: AtomicU64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

impl<const N: usize> Buckets<N> {
    fn add(&self, value: u64, bounds: &[u64]) {
        let at = bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// The count of each bucket, and the sum of all values.
    pub(crate) fn read(&self) -> ([u64; N], u64) {
        let counts = std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed));
        (counts, self.sum.load(Ordering::Relaxed))
    }
}

impl Figures {
    pub(crate) fn synced(&self, took: Duration, events: usize, bytes: usize) {
        self.syncs.add(took.as_micros() as u64, &SYNC_BUCKETS);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        // Groups of cursors alone say nothing about how events share an fsync.
        if events > 0 {
            self.groups.add(events as u64, &GROUP_BUCKETS);
            self.events.fetch_add(events as u64, Ordering::Relaxed);
        }
    }
}
