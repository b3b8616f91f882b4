//! Waiting until the journal knows on disk how far its sinks have got.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{commit::JournalError, engine::Engine};

/// How long to wait at once before everything is looked at again.
const LOOK: Duration = Duration::from_millis(250);

impl Engine {
    /// Notes every cursor that has changed and waits until the notes are safe, at most so long.
    pub(crate) fn settle(&self, time: Duration) -> Result<(), JournalError> {
        let until = Instant::now() + time;
        let mut content = Vec::new();
        let mut open = self.open();
        // What a full segment has no room for is noted in the next one.
        let mut noted = None;
        loop {
            if let Some(JournalError::Failed | JournalError::Closed) = open.closed_for {
                return open.closed_for.clone().map_or(Ok(()), Err);
            }
            if noted.is_none() {
                let feeds = self.feeds();
                let changed = |at: &usize| feeds[*at].cursor().changes() > 0;
                let mut left = false;
                for at in (0..feeds.len()).filter(changed) {
                    self.note(&mut open, at, false, &mut content);
                    left |= changed(&at);
                }
                if left {
                    // The next segment may still be made; then it begins with all of them.
                    let _ = self.turn_over(&mut open);
                    self.keeping.wake();
                }
                noted = (!left).then_some(open.next_sequence);
                self.wake(&open);
            }
            match noted {
                Some(noted) if open.durable >= noted => return Ok(()),
                _ if self.stopping.load(Ordering::Acquire) => return Err(JournalError::Closed),
                _ => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(JournalError::Full);
            }
            let waited = self.safe.wait_timeout(open, left.min(LOOK));
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counts what sinks have to get anew, where all of it is in memory: what damage took was counted and never came.
    pub(crate) fn recount(&self) {
        for feed in self.feeds().iter() {
            // Under this lock nothing is added.
            let open = self.open();
            if self.told.load(Ordering::Acquire) < open.next_sequence {
                // Something is on its way to the sinks.
                return;
            }
            let mut cursor = feed.cursor();
            let Some((events, bytes)) = cursor.all_held().filter(|held| *held != feed.pending()) else {
                continue;
            };
            feed.events.store(events, Ordering::Relaxed);
            feed.bytes.store(bytes, Ordering::Relaxed);
            cursor.note_all();
        }
    }

    /// See [`Journal::write_off`](crate::Journal::write_off).
    pub(crate) fn write_off(&self, sink: usize) -> u64 {
        let _open = self.open();
        let feed = Arc::clone(&self.feeds()[sink]);
        let mut cursor = feed.cursor();
        if !cursor.is_done() {
            return 0;
        }
        let lost = feed.events.swap(0, Ordering::Relaxed);
        if lost > 0 {
            feed.bytes.store(0, Ordering::Relaxed);
            cursor.note_all();
        }
        lost
    }
}
