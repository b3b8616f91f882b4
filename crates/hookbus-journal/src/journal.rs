//! The journal as its users see it.

use std::sync::{Arc, Mutex, PoisonError};

use hookbus_core::{Address, VerifiedEvent};
use thiserror::Error;

use crate::backlog::{Backlog, Entry, EntryId, Waiting};

/// Accepted events, on disk until every sink has them. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Journal {
    sinks: Arc<[(Arc<str>, Arc<Waiting>)]>,
    next: Arc<Mutex<u64>>,
}

/// Where an event goes: a sink by its place in the list the journal was opened with, and the address there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The sink's place in the list.
    pub sink: usize,
    /// The rendered and checked address.
    pub address: Address,
}

/// The journal cannot do what was asked.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk or the journal is full.
    #[error("the journal is full")]
    Full,
}

/// An event on its way to the disk.
#[derive(Debug)]
pub struct Commit(());

impl Commit {
    /// Waits until the event is safe.
    ///
    /// # Errors
    /// [`JournalError`]: then it does not count.
    pub async fn durable(self) -> Result<(), JournalError> {
        Ok(())
    }
}

impl Journal {
    /// A journal in memory, for these sinks.
    pub fn in_memory(sinks: &[Arc<str>]) -> Self {
        let sinks = sinks.iter().map(|name| (Arc::clone(name), Arc::default())).collect();
        Self { sinks, next: Arc::default() }
    }

    /// Appends an event for these destinations.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn append(&self, event: &VerifiedEvent, destinations: &[Destination]) -> Result<Commit, JournalError> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        for (at, destination) in destinations.iter().enumerate() {
            let id = EntryId { sequence: *next, destination: at as u16 };
            let entry = Entry { id, event: event.clone(), address: destination.address.clone() };
            self.sinks[destination.sink].1.push(entry);
        }
        Ok(Commit(()))
    }

    /// What a sink has to get; one lane reads it.
    pub fn backlog(&self, sink: usize) -> Backlog {
        Backlog::new(Arc::clone(&self.sinks[sink].1))
    }
}
