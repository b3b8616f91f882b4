//! A histogram of plain atomics: an observation takes no lock, allocates nothing and looks nothing up.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

/// Upper bounds of buckets, in whole steps of which `per_unit` make one of what is shown.
#[derive(Debug)]
pub(crate) struct Buckets {
    bounds: &'static [u64],
    per_unit: f64,
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Waits, from 0.1 ms to 30 s.
pub(crate) const DURATIONS: Buckets = Buckets {
    bounds: &[
        100 * US,
        250 * US,
        500 * US,
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        2_500 * MS,
        5 * S,
        10 * S,
        30 * S,
    ],
    per_unit: 1e9,
};

/// Numbers of events, from 1 to 5,000.
pub(crate) const SIZES: Buckets =
    Buckets { bounds: &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000], per_unit: 1.0 };

/// What was observed, in buckets that are fixed.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Buckets,
    /// One more than there are bounds: the last is for what lies above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(buckets: Buckets) -> Self {
        let counts = (0..=buckets.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, counts, sum: AtomicU64::new(0) }
    }

    /// Counts one observation, in steps of the buckets.
    pub(crate) fn observe(&self, value: u64) {
        let at = self.buckets.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Counts one wait, for [`DURATIONS`].
    pub(crate) fn observe_duration(&self, lasted: Duration) {
        self.observe(u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Writes its samples. The count is the sum of the buckets, so that they never contradict each other.
    pub(super) fn encode(&self, encoder: &mut MetricEncoder<'_>) -> std::fmt::Result {
        let scale = |steps: u64| steps as f64 / self.buckets.per_unit;
        let bounds = self.buckets.bounds.iter().map(|bound| scale(*bound)).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(scale(self.sum.load(Relaxed)), count, &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(SIZES);
        for value in [0, 1, 2, 3, 5, 5_000, 5_001, 1_000_000] {
            histogram.observe(value);
        }
        let counts: Vec<_> = histogram.counts.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!(counts, [2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(histogram.sum.load(Relaxed), 1_010_012);
    }

    #[test]
    fn bounds_rise() {
        for buckets in [DURATIONS, SIZES] {
            assert!(buckets.bounds.is_sorted_by(|one, next| one < next));
        }
    }
}
