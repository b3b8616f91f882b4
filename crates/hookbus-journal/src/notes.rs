//! Noting how far sinks have got.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{
    backlog::Feed,
    cursor::NOTE_AFTER,
    engine::{Engine, IDLE},
    format::{self, CHECKPOINT, CURSOR, Checkpoint},
    group::Open,
    room::TAKEN,
};

/// A cursor that has changed is noted after so long.
const NOTE_WITHIN: Duration = Duration::from_millis(20);

/// So many entries a sink may always have taken.
const FEWEST_TAKEN: usize = 256;

impl Engine {
    /// Begins a segment with all cursors, so that nothing before it need be read to know them.
    pub(crate) fn checkpoint(&self, open: &mut Open) {
        let mut content = Vec::new();
        let feeds = self.feeds().len();
        let cursors = u32::try_from(feeds).unwrap_or(u32::MAX);
        format::write(&Checkpoint { cursors }, &mut content);
        // Invariant: a checkpoint is far smaller than the smallest segment. Where it is not, the one before counts.
        let _ = open.seal(&self.store.key, CHECKPOINT, &content, None);
        for at in 0..feeds {
            self.note(open, at, true, &mut content);
        }
        open.notes_at = Instant::now();
    }

    /// Lets all sinks together take no more than half a segment can name, as its checkpoint does.
    pub(crate) fn limit_taken(&self) {
        let feeds = self.feeds();
        let entries = self.settings.segment_size / 2 / TAKEN / (feeds.len() as u64).max(1);
        let most = usize::try_from(entries).unwrap_or(usize::MAX).max(FEWEST_TAKEN);
        feeds.iter().for_each(|feed| feed.cursor().most_taken = most);
    }

    /// Notes a cursor.
    pub(crate) fn note(&self, open: &mut Open, at: usize, full: bool, content: &mut Vec<u8>) {
        let feed = Arc::clone(&self.feeds()[at]);
        let mut cursor = feed.cursor();
        // Where what has changed has no room, the whole may have: of what is resolved it says nothing.
        for full in [full, true] {
            let note = cursor.note(&feed.name, feed.pending(), full);
            format::write(&note, content);
            let (needed, before) = (cursor.oldest(), open.mark());
            let sealed = open.seal(&self.store.key, CURSOR, content, None);
            // Behind the end of a segment nobody would look for it.
            if sealed.is_ok() && open.group.end().offset <= open.segment.header.capacity {
                open.group.cursors.push((at, needed));
                return;
            }
            open.back_to(before);
            cursor.note_all();
        }
    }

    /// Notes the cursors that have changed, where it is time. How long until it is time for the others.
    pub(crate) fn note_changes(&self, open: &mut Open, now: Instant) -> Duration {
        let last = self.stopping.load(Ordering::Acquire);
        let due = last || now.saturating_duration_since(open.notes_at) >= NOTE_WITHIN;
        let (mut content, mut wait) = (Vec::new(), IDLE);
        for (at, feed) in self.feeds().iter().enumerate() {
            let changes = feed.cursor().changes();
            if changes == 0 {
                continue;
            }
            if !due && changes < NOTE_AFTER {
                wait = NOTE_WITHIN;
                continue;
            }
            // A cursor is small, but for the one of a sink with much that is stuck.
            let reserve = self.settings.reserve(open.segment.header.capacity);
            if open.room() < (reserve / 2).min(64 << 10) && self.turn_over(open).is_ok() {
                return IDLE;
            }
            // What is left is kept for the notes that let a segment go: without them the journal would stay full.
            if !last
                && open.room() < reserve / 2
                && feed.cursor().oldest() <= feed.needed.load(Ordering::Acquire)
            {
                continue;
            }
            self.note(open, at, false, &mut content);
        }
        if due {
            open.notes_at = now;
        }
        wait
    }

    /// Whether all cursors are noted as they are.
    pub(crate) fn all_noted(&self) -> bool {
        self.feeds().iter().all(|feed| feed.cursor().changes() == 0)
    }

    /// Notes the cursors that need a segment no more while the disk still says so, and waits until that is safe, at most
    /// so long.
    pub(crate) fn note_past(&self, segment: u64, time: Duration) {
        let lags = |feed: &&Arc<Feed>| feed.needed.load(Ordering::Acquire) <= segment;
        let until = Instant::now() + time;
        let feeds = self.feeds();
        for feed in feeds.iter().filter(lags) {
            feed.cursor().note_all();
        }
        let mut open = self.open();
        self.wake(&open);
        while feeds.iter().any(|feed| lags(&feed)) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.has_ended(&open) {
                return;
            }
            open = self.safe.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
