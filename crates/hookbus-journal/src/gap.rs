//! How long the writer waits for a group to fill.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::group::Group;

/// A group that follows one with fewer events than this is written at once: nobody would come to fill it.
const FEW: u64 = 4;
/// From so many on the machine is busy, and larger groups give it back more than they cost.
const MANY: u64 = 12;
/// The shortest and the longest gap, in microseconds, behind a group of a few and of many.
const BEHIND_FEW: (u64, u64) = (50, 400);
const BEHIND_MANY: (u64, u64) = (200, 800);

/// How long the writer waits for a group to fill.
///
/// Whatever comes while a group is written shares the next one. Where an fsync is quick, that is little, and each group
/// costs a write, an fsync and a round of wake-ups; so under load the writer waits about as long as the disk takes
/// anyway, and a few times that where many come. A lone event never waits: only after a group of several does the next
/// one have company to expect.
#[derive(Debug, Default)]
pub(crate) struct Gap {
    /// Events of the last group that had any.
    last: AtomicU64,
    /// About what an fsync takes, in microseconds.
    sync: AtomicU64,
}

impl Gap {
    /// How long to wait before this group is taken, where it pays.
    pub(crate) fn next(&self, group: &Group) -> Option<Duration> {
        let (last, so_far) = (self.last.load(Ordering::Relaxed), group.events.len() as u64);
        // One that has grown as large as the last one by itself has no more to expect.
        let pays = so_far > 0 && last >= FEW && so_far < last.saturating_mul(2);
        let sync = self.sync.load(Ordering::Relaxed);
        let gap = match last < MANY {
            true => sync.clamp(BEHIND_FEW.0, BEHIND_FEW.1),
            false => (3 * sync).clamp(BEHIND_MANY.0, BEHIND_MANY.1),
        };
        pays.then_some(Duration::from_micros(gap))
    }

    /// The group is taken to be written.
    pub(crate) fn taken(&self, group: &Group) {
        if !group.events.is_empty() {
            self.last.store(group.events.len() as u64, Ordering::Relaxed);
        }
    }

    /// An fsync took so long.
    pub(crate) fn synced(&self, took: Duration) {
        let (about, took) = (self.sync.load(Ordering::Relaxed), took.as_micros() as u64);
        self.sync.store((about * 7 + took) / 8, Ordering::Relaxed);
    }
}
