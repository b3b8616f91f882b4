//! The state of one publish call: what has an outcome, what was sent, and what nobody knows.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hookbus_core::{Batch, Envelope, Outcome, Report, SinkError};

/// A batch, its report, and what was sent so far.
///
/// The report alone knows what is resolved, so that a call may be dropped at any point.
pub(crate) struct Work<'b> {
    batch: &'b Batch,
    report: &'b Report,
    /// Whether the event was sent and is not resolved.
    sent: Box<[AtomicBool]>,
    /// Whether it was sent on a channel that ended before it was resolved.
    doubtful: Box<[AtomicBool]>,
}

impl<'b> Work<'b> {
    pub(crate) fn new(batch: &'b Batch, report: &'b Report) -> Self {
        let flags = || batch.iter().map(|_| AtomicBool::new(false)).collect();
        Self { batch, report, sent: flags(), doubtful: flags() }
    }

    pub(crate) fn envelope(&self, at: usize) -> &'b Envelope {
        &self.batch[at]
    }

    /// The events that have no outcome yet.
    pub(crate) fn open(&self) -> impl Iterator<Item = usize> {
        (0..self.batch.len()).filter(|at| self.is_open(*at))
    }

    pub(crate) fn is_open(&self, at: usize) -> bool {
        self.report.get(at).is_none()
    }

    /// The event is about to be sent.
    pub(crate) fn sending(&self, at: usize) {
        self.sent[at].store(true, Relaxed);
    }

    /// It was not sent after all.
    pub(crate) fn not_sent(&self, at: usize) {
        self.sent[at].store(false, Relaxed);
    }

    /// The channel has ended: of what was sent on it and is not resolved, nobody knows.
    pub(crate) fn in_doubt(&self) {
        for at in self.open().filter(|at| self.sent[*at].swap(false, Relaxed)) {
            self.doubtful[at].store(true, Relaxed);
        }
    }

    pub(crate) fn delivered(&self, at: usize) {
        self.report.set(at, Outcome::delivered(None));
    }

    pub(crate) fn rejected(&self, at: usize, error: SinkError) {
        self.report.set(at, Outcome::rejected(error));
    }

    /// The broker did not take it this time; an earlier try within this call may have been taken.
    pub(crate) fn refused(&self, at: usize, error: SinkError) {
        let outcome = if self.doubtful[at].load(Relaxed) { Outcome::maybe_delivered } else { Outcome::retry };
        self.report.set(at, outcome(error));
    }

    /// Nobody knows whether the broker took it.
    pub(crate) fn unknown(&self, at: usize, error: SinkError) {
        self.report.set(at, Outcome::maybe_delivered(error));
    }

    /// The end of the call: says of everything open why it is.
    pub(crate) fn give_up(&self, error: &SinkError) {
        self.in_doubt();
        self.open().for_each(|at| self.refused(at, error.clone()));
    }
}
