//! What the journal says of itself.

use std::{fmt, time::Duration};

/// Hears of every group that is safe on disk.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// A group of so many events and bytes is safe; its fsync took so long. Without events it noted cursors alone. Called
    /// by the thread that writes: it must not wait.
    fn group(&self, events: u64, bytes: u64, fsync: Duration);
}

/// How a journal is at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Bytes of all segments on disk.
    pub disk_bytes: u64,
    /// How many segments there are.
    pub segments: u64,
    /// How far back re-deliveries are recognised now.
    pub dedup_window: Duration,
    /// Events that were recognised as re-deliveries since it was opened.
    pub duplicates: u64,
}

/// Whether a journal takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Ready,
    /// It cannot grow, or its disk refuses to take anything, until that changes by itself or by hand.
    Full,
    /// An fsync failed: it takes nothing until a restart.
    Failed,
}
