//! The outcomes of a batch, filled in while they arrive.

use std::sync::OnceLock;

use super::Outcome;
use crate::{ErrorKind, SinkError};

/// One slot per event of a batch. The first word about an event stands; a slot nobody filled means that nobody
/// knows.
#[derive(Debug)]
pub struct Report {
    slots: Box<[OnceLock<Outcome>]>,
}

impl Report {
    /// A report with open slots for a batch of so many events.
    pub fn new(events: usize) -> Self {
        Self { slots: (0..events).map(|_| OnceLock::new()).collect() }
    }

    /// Says what became of the event at `index` of the batch. A second word about the same event is dropped, so a
    /// late guess cannot overwrite a confirmation.
    ///
    /// # Panics
    /// Where the batch has no such event.
    pub fn set(&self, index: usize, outcome: Outcome) {
        let _ = self.slots[index].set(outcome);
    }

    /// Says the same of every event nothing was said about yet.
    pub fn set_rest(&self, outcome: &Outcome) {
        for slot in &self.slots {
            slot.get_or_init(|| outcome.clone());
        }
    }

    /// What was said about the event at `index` so far.
    pub fn get(&self, index: usize) -> Option<&Outcome> {
        self.slots.get(index).and_then(OnceLock::get)
    }

    /// The final outcomes, in batch order: an open slot becomes "retry, maybe delivered".
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.slots.iter().map(|slot| slot.get().cloned().unwrap_or_else(unknown))
    }
}

fn unknown() -> Outcome {
    Outcome::maybe_delivered(SinkError::new(
        ErrorKind::Timeout,
        "publish",
        "no confirmation before the deadline",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_stands_and_silence_means_maybe() {
        let report = Report::new(2);
        report.set(0, Outcome::delivered(None));
        report.set(0, Outcome::rejected(SinkError::new(ErrorKind::TooLarge, "publish", "late")));
        let outcomes: Vec<_> = report.outcomes().collect();
        assert!(matches!(outcomes[0], Outcome::Delivered { .. }));
        assert!(matches!(outcomes[1], Outcome::Retry { maybe_delivered: true, .. }));
    }
}
