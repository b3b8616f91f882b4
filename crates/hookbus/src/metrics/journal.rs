//! What is counted of the journal.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use hookbus_journal::Observer;

use super::{
    Reading,
    histogram::{DURATIONS, Histogram, SIZES},
};

/// The journal: what its writer tells of each group, and what it says when somebody looks.
///
/// It is shown once [`figures`](Self::figures) has something to read from.
#[derive(Debug)]
pub(crate) struct JournalMetrics {
    pub(super) events: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) group_events: Histogram,
    pub(super) fsync_duration: Histogram,
    /// Everything else.
    pub(crate) figures: Reading<JournalFigures>,
}

/// What a journal says of itself at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalFigures {
    /// Bytes it occupies on disk.
    pub(crate) disk_bytes: u64,
    /// Segment files.
    pub(crate) segments: u64,
    /// How far back a re-delivery is recognised now.
    pub(crate) dedup_window: Duration,
    /// Events that were recognised as re-deliveries since the start.
    pub(crate) duplicates: u64,
}

impl Default for JournalMetrics {
    fn default() -> Self {
        Self {
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            group_events: Histogram::new(SIZES),
            fsync_duration: Histogram::new(DURATIONS),
            figures: Reading::default(),
        }
    }
}

impl Observer for JournalMetrics {
    fn group(&self, events: u64, bytes: u64, fsync: Duration) {
        self.events.fetch_add(events, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.fsync_duration.observe_duration(fsync);
        // Groups of cursors alone say nothing about how events share an fsync.
        if events > 0 {
            self.group_events.observe(events);
        }
    }
}
