//! Events of the journal that were given up, until their dead letters are safe.

use std::{collections::VecDeque, sync::Arc};

use hookbus_core::{Address, SinkError, VerifiedEvent};
use hookbus_journal::{Entry, EntryId, Letter};
use tokio::task::JoinSet;

use super::backoff;
use crate::{
    dead_letters::{LetterBox, log},
    metrics::SinkMetrics,
};

/// Dead letters of one lane that may be on their way to the store at once, with their events in memory.
const KEEPING: usize = 16;

/// The dead letters of a lane: a store that is full or in trouble is asked again for as long as the lane runs, and
/// holds up nothing but them.
#[derive(Debug)]
pub(super) struct Letters {
    sink: Arc<str>,
    store: Arc<LetterBox>,
    metrics: Arc<SinkMetrics>,
    keeping: JoinSet<EntryId>,
    /// Those whose turn comes later; their events are read again then.
    waiting: VecDeque<GivenUp>,
}

/// Why an entry was given up.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) id: EntryId,
    pub(super) error: SinkError,
    pub(super) attempts: u32,
}

impl Letters {
    pub(super) fn new(sink: Arc<str>, store: Arc<LetterBox>, metrics: Arc<SinkMetrics>) -> Self {
        Self { sink, store, metrics, keeping: JoinSet::new(), waiting: VecDeque::new() }
    }

    /// Makes an entry whose event is at hand a dead letter.
    pub(super) fn write(&mut self, given_up: GivenUp, event: VerifiedEvent, address: Address) {
        if self.has_room() && self.waiting.is_empty() {
            self.spawn(given_up, event, address);
        } else {
            self.waiting.push_back(given_up);
        }
    }

    /// Makes an entry a dead letter whose event has to be read again.
    pub(super) fn write_later(&mut self, given_up: GivenUp) {
        self.waiting.push_back(given_up);
    }

    /// How many wait for their turn.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The entry to be read again, if it is somebody's turn.
    pub(super) fn next(&self) -> Option<EntryId> {
        self.waiting.front().filter(|_| self.has_room()).map(|given_up| given_up.id)
    }

    /// Goes on with the one that is next, which was read; or without it, where it cannot be read any more.
    pub(super) fn read(&mut self, entry: Option<Entry>) {
        if let (Some(given_up), Some(entry)) = (self.waiting.pop_front(), entry) {
            self.spawn(given_up, entry.event, entry.address);
        }
    }

    /// Waits for one that is safe. May be cancelled; pending where there is none on its way.
    pub(super) async fn kept(&mut self) -> EntryId {
        loop {
            match self.keeping.join_next().await {
                Some(Ok(id)) => return id,
                // It panicked: the entry stays in the journal, and comes again after a restart.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.keeping.len() < KEEPING
    }

    fn spawn(&mut self, given_up: GivenUp, event: VerifiedEvent, address: Address) {
        let GivenUp { id, error, attempts } = given_up;
        let (sink, store) = (Arc::clone(&self.sink), Arc::clone(&self.store));
        let reason = error.kind().as_str();
        let letter = Letter::new(event, sink, reason, &error.to_string());
        let letter = Letter { address: Some(address), attempts, entry: Some(id), ..letter };
        log(&letter);
        let metrics = Arc::clone(&self.metrics);
        self.keeping.spawn(async move {
            let mut failures = 0;
            while let Err(error) = store.keep(letter.clone()).await {
                if failures == 0 {
                    let (sink, id) = (&letter.sink, letter.event.id().as_str());
                    tracing::error!(%sink, id, %error, "dead letter not kept; it is tried again until it is");
                }
                failures = u32::saturating_add(failures, 1);
                tokio::time::sleep(backoff::jittered(failures)).await;
            }
            metrics.dead_letter(reason);
            id
        });
    }
}
