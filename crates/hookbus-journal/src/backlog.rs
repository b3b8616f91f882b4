//! What one sink has to get.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hookbus_core::{Address, VerifiedEvent};
use tokio::sync::Notify;

/// What an entry is known by, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// The number of its record.
    pub sequence: u64,
    /// Which destination of that record it is: an event may go to several addresses of one sink.
    pub destination: u16,
}

/// An event of the journal on its way to one address of a sink.
#[derive(Clone, Debug)]
pub struct Entry {
    /// By this it is resolved.
    pub id: EntryId,
    /// The event.
    pub event: VerifiedEvent,
    /// Where it goes.
    pub address: Address,
}

/// How much may be taken.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Events at most.
    pub events: usize,
    /// Bytes of events at most; a single larger event comes all the same.
    pub bytes: usize,
}

/// What one sink has to get, in the order it was accepted. The lane of the sink owns it.
#[derive(Debug)]
pub struct Backlog {
    waiting: Arc<Waiting>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    entries: Mutex<VecDeque<Entry>>,
    taken: Mutex<HashMap<EntryId, Entry>>,
    more: Notify,
}

impl Waiting {
    pub(crate) fn push(&self, entry: Entry) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push_back(entry);
        self.more.notify_one();
    }
}

impl Backlog {
    pub(crate) fn new(waiting: Arc<Waiting>) -> Self {
        Self { waiting }
    }

    /// Waits until there may be something to take. May be cancelled.
    pub async fn ready(&self) {
        if self.waiting.entries.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.waiting.more.notified().await;
        }
    }

    /// Takes the next entries. What is not in memory is read from disk by a thread that may block; an empty answer means
    /// that there is nothing now. Where the wait is cancelled, nothing is lost.
    ///
    /// # Errors
    /// As the disk says; the entries are still there.
    pub async fn take(&mut self, room: Room) -> io::Result<Vec<Entry>> {
        let mut entries = self.waiting.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let count = entries.len().min(room.events);
        let taken: Vec<_> = entries.drain(..count).collect();
        self.taken().extend(taken.iter().map(|entry| (entry.id, entry.clone())));
        Ok(taken)
    }

    /// Reads an entry that was taken, and is not resolved, once more from disk: so that the body of one that has to wait
    /// for long need not be held.
    ///
    /// # Errors
    /// As the disk says.
    pub async fn again(&self, id: EntryId) -> io::Result<Entry> {
        self.taken().get(&id).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The entry is delivered, or a dead letter that is safe: it is never handed out again.
    pub fn resolve(&self, id: EntryId) {
        self.taken().remove(&id);
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<EntryId, Entry>> {
        self.waiting.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
