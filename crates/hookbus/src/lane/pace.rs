//! Whether a lane sends, waits, or tries again carefully. Pure: the clock is passed in.

use hookbus_core::SinkError;
use tokio::time::Instant;

use super::backoff;

/// The pace of a lane.
///
/// After an outage the sink is probed until it answers, and then tried with a single event: an outage thus makes at
/// most one window of duplicates, however long it lasts.
#[derive(Debug)]
pub(super) enum Pace {
    /// Everything may be sent.
    Open,
    /// The sink is down: nothing is sent until then, when it is probed.
    Paused { until: Instant, failures: u32, error: SinkError },
    /// A probe is on its way.
    Probing { failures: u32, error: SinkError },
    /// The probe was answered: one event at a time until one is.
    Trial { failures: u32 },
}

impl Pace {
    /// How many events may be sent now, with so many batches in flight.
    pub(super) fn allows(&self, in_flight: usize, max_in_flight: usize) -> usize {
        match self {
            Self::Open if in_flight < max_in_flight => usize::MAX,
            Self::Trial { .. } if in_flight == 0 => 1,
            _ => 0,
        }
    }

    /// The sink is down. Batches that were in flight together count as one failure.
    pub(super) fn pause(&mut self, error: SinkError, now: Instant) {
        let failures = match self {
            Self::Open => 1,
            Self::Trial { failures } | Self::Probing { failures, .. } => failures.saturating_add(1),
            Self::Paused { .. } => return,
        };
        *self = Self::Paused { until: now + backoff::until_probe(failures), failures, error };
    }

    /// Whether it is time to probe; if so, a probe counts as under way.
    pub(super) fn begin_probe(&mut self, now: Instant) -> bool {
        match self {
            Self::Paused { until, failures, error } if *until <= now => {
                *self = Self::Probing { failures: *failures, error: error.clone() };
                true
            }
            _ => false,
        }
    }

    /// The probe that was on its way was cut off, and tells nothing: the next one is due at once.
    pub(super) fn probe_cut_off(&mut self, now: Instant) {
        if let Self::Probing { failures, error } = self {
            *self = Self::Paused { until: now, failures: *failures, error: error.clone() };
        }
    }

    /// The probe was answered.
    pub(super) fn probed(&mut self) {
        if let Self::Probing { failures, .. } = self {
            *self = Self::Trial { failures: *failures };
        }
    }

    /// The sink took responsibility for an event, or refused that event alone: it is there.
    pub(super) fn answered(&mut self) {
        if matches!(self, Self::Trial { .. }) {
            *self = Self::Open;
        }
    }

    /// What stands in the way of sending, and until when, while the sink is down.
    pub(super) fn obstacle(&self, now: Instant) -> Option<(SinkError, std::time::Duration)> {
        match self {
            Self::Paused { until, error, .. } => Some((error.clone(), until.saturating_duration_since(now))),
            Self::Probing { error, .. } => Some((error.clone(), std::time::Duration::ZERO)),
            Self::Open | Self::Trial { .. } => None,
        }
    }

    /// When the next probe is due.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        match self {
            Self::Paused { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether everything may be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}
