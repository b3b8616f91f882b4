//! What is counted of a sink and its lane.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hookbus_core::{ErrorKind, Outcome};

use super::{
    Reading,
    histogram::{DURATIONS, Histogram, SIZES},
};

/// Outcomes of a try.
const OUTCOMES: [&str; 4] = ["delivered", "retry", "maybe_delivered", "rejected"];

/// Reasons of dead letters that are no kind of error; the last one stands for whatever is not listed here.
const OTHER_REASONS: [&str; 4] = ["max-pending", "unaddressable", "unredactable", "other"];

/// Reasons of dead letters.
const REASONS: usize = ErrorKind::ALL.len() + OTHER_REASONS.len();

/// One sink and its lane.
#[derive(Debug)]
pub(crate) struct SinkMetrics {
    pub(super) sink: Arc<str>,
    outcomes: [AtomicU64; OUTCOMES.len()],
    errors: [AtomicU64; ErrorKind::ALL.len()],
    dead_letters: [AtomicU64; REASONS],
    pub(super) batch_events: Histogram,
    pub(super) publish_duration: Histogram,
    pub(super) lane_events: AtomicU64,
    pub(super) batches_in_flight: AtomicU64,
    /// What waits for the sink, read when somebody looks.
    pub(crate) pending: Reading<Pending>,
}

/// What was accepted for a sink, or offered to it, and is not resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    /// How long ago the oldest of them was accepted, where that is known.
    pub(crate) oldest: Option<Duration>,
}

impl SinkMetrics {
    pub(crate) fn new(sink: Arc<str>) -> Self {
        Self {
            sink,
            outcomes: Default::default(),
            errors: Default::default(),
            dead_letters: Default::default(),
            batch_events: Histogram::new(SIZES),
            publish_duration: Histogram::new(DURATIONS),
            lane_events: AtomicU64::new(0),
            batches_in_flight: AtomicU64::new(0),
            pending: Reading::default(),
        }
    }

    /// A batch of so many events is handed to the sink.
    pub(crate) fn launched(&self, events: usize) {
        self.batch_events.observe(events as u64);
    }

    /// The sink has returned from a batch.
    pub(crate) fn published(&self, lasted: Duration) {
        self.publish_duration.observe_duration(lasted);
    }

    /// An event was tried.
    pub(crate) fn tried(&self, outcome: &Outcome) {
        let (at, error) = match outcome {
            Outcome::Delivered { .. } => (0, None),
            Outcome::Retry { error, maybe_delivered: false, .. } => (1, Some(error)),
            Outcome::Retry { error, .. } => (2, Some(error)),
            Outcome::Rejected { error, .. } => (3, Some(error)),
            _ => (2, None),
        };
        self.outcomes[at].fetch_add(1, Relaxed);
        if let Some(error) = error {
            self.errors[error.kind() as usize].fetch_add(1, Relaxed);
        }
    }

    /// An event is safe among the dead letters, for this reason.
    pub(crate) fn dead_letter(&self, reason: &str) {
        let at = reasons().position(|known| known == reason).unwrap_or(REASONS - 1);
        self.dead_letters[at].fetch_add(1, Relaxed);
    }

    /// How many events are in the lane's queue, and how many batches in flight.
    pub(crate) fn lane(&self, events: usize, in_flight: usize) {
        self.lane_events.store(events as u64, Relaxed);
        self.batches_in_flight.store(in_flight as u64, Relaxed);
    }

    pub(super) fn delivered(&self) -> u64 {
        self.outcomes[0].load(Relaxed)
    }

    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(loaded(&self.outcomes))
    }

    pub(super) fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ErrorKind::ALL.into_iter().map(ErrorKind::as_str).zip(loaded(&self.errors))
    }

    pub(super) fn dead_letters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        reasons().zip(loaded(&self.dead_letters))
    }
}

fn reasons() -> impl Iterator<Item = &'static str> {
    ErrorKind::ALL.into_iter().map(ErrorKind::as_str).chain(OTHER_REASONS)
}

fn loaded(counters: &[AtomicU64]) -> impl Iterator<Item = u64> {
    counters.iter().map(|counter| counter.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use hookbus_core::SinkError;

    use super::*;

    fn counted(figures: impl Iterator<Item = (&'static str, u64)>) -> Vec<(&'static str, u64)> {
        figures.filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_try_counts_by_its_outcome_and_its_error() {
        let metrics = SinkMetrics::new("bus".into());
        let error = |kind| SinkError::new(kind, "publish", "x");
        metrics.tried(&Outcome::delivered(None));
        metrics.tried(&Outcome::retry(error(ErrorKind::Unavailable)));
        metrics.tried(&Outcome::maybe_delivered(error(ErrorKind::Timeout)));
        metrics.tried(&Outcome::rejected(error(ErrorKind::Unexpected)));
        assert_eq!(
            counted(metrics.outcomes()),
            [("delivered", 1), ("retry", 1), ("maybe_delivered", 1), ("rejected", 1)]
        );
        assert_eq!(counted(metrics.errors()), [("unavailable", 1), ("timeout", 1), ("unexpected", 1)]);
        assert_eq!(metrics.delivered(), 1);
    }

    #[test]
    fn a_dead_letter_counts_whatever_its_reason() {
        let metrics = SinkMetrics::new("bus".into());
        for reason in ["too-large", "unaddressable", "unaddressable", "no word of the list"] {
            metrics.dead_letter(reason);
        }
        assert_eq!(counted(metrics.dead_letters()), [("too-large", 1), ("unaddressable", 2), ("other", 1)]);
    }
}
