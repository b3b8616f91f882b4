//! The rules of giving up, as one pure function.

use std::time::Duration;

use hookbus_core::{ErrorKind, Outcome, RetryClass, SinkError};

/// An address may be missing for so long before its events are given up.
pub(super) const UNROUTABLE_FOR: Duration = Duration::from_mins(15);
/// An event may fail for no known reason so often.
const UNEXPECTED_TRIES: u32 = 10;

/// How often an event was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempts {
    /// Whatever came of it.
    pub(crate) all: u32,
    /// Those that failed for no known reason. An outage in between is not the event's.
    unexpected: u32,
}

impl Attempts {
    /// One more, with this outcome.
    pub(super) fn count(&mut self, outcome: &Outcome) {
        self.all = self.all.saturating_add(1);
        if let Outcome::Retry { error, .. } = outcome
            && error.retry_class() == RetryClass::Event
        {
            self.unexpected = self.unexpected.saturating_add(1);
        }
    }
}

/// What to do about one event after one try.
#[derive(Debug)]
pub(super) enum Verdict {
    Delivered,
    /// No try can help.
    DeadLetter(SinkError),
    /// The sink is down, not the event: the lane pauses.
    PauseLane(SinkError),
    /// The address is set aside until its metadata says it is there.
    SetAside(SinkError),
    /// This event alone waits for its next try. Where it may have been delivered the lane goes carefully meanwhile,
    /// so that tries of a whole window do not each make a window of duplicates.
    TryAgain {
        error: SinkError,
        maybe_delivered: bool,
    },
}

/// Decides from the outcome, how often the event was tried (this try included), and how long its address has been
/// missing while it waited.
pub(super) fn verdict(outcome: Outcome, attempts: Attempts, missing_for: Duration) -> Verdict {
    let (error, maybe_delivered, rejected) = match outcome {
        Outcome::Delivered { .. } => return Verdict::Delivered,
        Outcome::Retry { error, maybe_delivered, .. } => (error, maybe_delivered, false),
        Outcome::Rejected { error, .. } => (error, false, true),
        // Invariant: the constructors make no other outcome; one that is added later is no delivery.
        _ => {
            return Verdict::TryAgain {
                error: SinkError::new(hookbus_core::ErrorKind::Unexpected, "publish", "unknown outcome"),
                maybe_delivered: true,
            };
        }
    };
    match error.retry_class() {
        // A sink that calls its own outage a rejection is not believed: it is the sink that is down.
        RetryClass::Sink => Verdict::PauseLane(error),
        RetryClass::Never => Verdict::DeadLetter(error),
        _ if rejected => Verdict::DeadLetter(error),
        RetryClass::Address if missing_for >= UNROUTABLE_FOR && error.kind() == ErrorKind::Unroutable => {
            Verdict::DeadLetter(error)
        }
        RetryClass::Address => Verdict::SetAside(error),
        RetryClass::Event if attempts.unexpected >= UNEXPECTED_TRIES => Verdict::DeadLetter(error),
        RetryClass::Event => Verdict::TryAgain { error, maybe_delivered },
    }
}

#[cfg(test)]
mod tests {
    use hookbus_core::ErrorKind::{
        self, Auth, Closed, InvalidEvent, Overloaded, Timeout, TooLarge, Unavailable, Unexpected, Unroutable,
    };

    use super::*;

    fn word(outcome: Outcome, tries: u32, minutes: u64) -> &'static str {
        let attempts = Attempts { all: tries, unexpected: tries };
        match verdict(outcome, attempts, Duration::from_mins(minutes)) {
            Verdict::Delivered => "delivered",
            Verdict::DeadLetter(_) => "dead letter",
            Verdict::PauseLane(_) => "pause",
            Verdict::SetAside(_) => "set aside",
            Verdict::TryAgain { .. } => "again",
        }
    }

    #[test]
    fn the_table() {
        let error = |kind: ErrorKind| SinkError::new(kind, "publish", "x");
        // kind, tries, minutes without the address: after "retry", after "rejected"
        let table = [
            (Unavailable, 1, 0, "pause", "pause"),
            (Unavailable, 1_000, 100_000, "pause", "pause"),
            (Timeout, 1_000, 100_000, "pause", "pause"),
            (Overloaded, 1_000, 100_000, "pause", "pause"),
            (Auth, 1_000, 100_000, "pause", "pause"),
            (Closed, 1, 0, "pause", "pause"),
            (TooLarge, 1, 0, "dead letter", "dead letter"),
            (InvalidEvent, 1, 0, "dead letter", "dead letter"),
            (Unroutable, 1, 0, "set aside", "dead letter"),
            (Unroutable, 1_000, 14, "set aside", "dead letter"),
            (Unroutable, 1, 15, "dead letter", "dead letter"),
            (Unexpected, 1, 0, "again", "dead letter"),
            (Unexpected, 9, 100_000, "again", "dead letter"),
            (Unexpected, 10, 0, "dead letter", "dead letter"),
        ];
        for (kind, tries, minutes, retry, rejected) in table {
            assert_eq!(
                word(Outcome::retry(error(kind)), tries, minutes),
                retry,
                "{kind:?} {tries} {minutes}"
            );
            assert_eq!(
                word(Outcome::maybe_delivered(error(kind)), tries, minutes),
                retry,
                "{kind:?} {tries} {minutes}"
            );
            assert_eq!(
                word(Outcome::rejected(error(kind)), tries, minutes),
                rejected,
                "{kind:?} {tries} {minutes}"
            );
        }
        assert_eq!(word(Outcome::delivered(None), 1, 0), "delivered");
    }

    #[test]
    fn an_address_in_trouble_is_waited_for_and_one_that_is_not_there_given_up() {
        let full = || SinkError::new(Overloaded, "publish", "x").of_address();
        assert_eq!(word(Outcome::retry(full()), 1, 0), "set aside");
        assert_eq!(word(Outcome::maybe_delivered(full()), 1_000, 100_000), "set aside");
    }
}
