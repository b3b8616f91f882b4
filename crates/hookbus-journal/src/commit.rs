//! Waiting for an event to be safe.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use thiserror::Error;
use tokio::sync::Notify;

/// The journal cannot do what was asked. What it was asked to accept is not accepted.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The journal has reached its `max-size`, and none of it can go.
    #[error("the journal has reached its `max-size` with events that are not delivered")]
    Full,
    /// A sink has reached its `max-pending`.
    #[error("sink `{sink}` has reached its `max-pending`")]
    SinkFull {
        /// The sink.
        sink: Arc<str>,
    },
    /// The event is larger than a segment takes.
    #[error("the event is larger than a segment of the journal takes")]
    TooLarge,
    /// The disk refused to take something. It is tried again by itself.
    #[error("cannot write the journal: {0}")]
    Disk(#[source] Arc<io::Error>),
    /// The disk does not keep up.
    #[error("the disk does not keep up with the journal")]
    Slow,
    /// An fsync failed: what the disk holds cannot be known, so nothing is accepted any more.
    #[error("an fsync of the journal failed; nothing is accepted until a restart")]
    Failed,
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
}

/// What became of an event that was handed in.
#[derive(Clone, Debug)]
pub enum Appended {
    /// It is new somewhere: it is accepted when this is durable.
    New(Commit),
    /// It was accepted before, for everywhere it goes: that counts when this is durable.
    Duplicate(Commit),
}

/// An event on its way to the disk.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Nothing, where it is safe already.
    group: Option<Arc<GroupState>>,
}

/// What became of a group of records that share an fsync.
#[derive(Debug, Default)]
pub(crate) struct GroupState {
    done: OnceLock<Result<(), JournalError>>,
    told: Notify,
}

impl Commit {
    pub(crate) fn new(group: &Arc<GroupState>) -> Self {
        Self { group: Some(Arc::clone(group)) }
    }

    /// Of an event that is safe already.
    pub(crate) fn done() -> Self {
        Self { group: None }
    }

    /// Waits until the event is safe.
    ///
    /// # Errors
    /// [`JournalError`]: then it does not count.
    pub async fn durable(&self) -> Result<(), JournalError> {
        let Some(group) = &self.group else { return Ok(()) };
        loop {
            let told = group.told.notified();
            if let Some(done) = group.done.get() {
                return done.clone();
            }
            told.await;
        }
    }
}

impl GroupState {
    /// Tells everybody who waits.
    pub(crate) fn tell(&self, result: Result<(), JournalError>) {
        let _ = self.done.set(result);
        self.told.notify_waiters();
    }
}
