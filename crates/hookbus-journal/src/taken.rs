//! Entries that a sink has taken and not resolved.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
};

use crate::{
    backlog::EntryId,
    format::{Location, Taken},
};

/// Entries that were taken, by their ids; and how many lie in each segment, as every note asks for the first of those.
#[derive(Debug, Default)]
pub(crate) struct TakenEntries {
    by_id: BTreeMap<EntryId, TakenAt>,
    by_segment: BTreeMap<u64, usize>,
    bytes: u64,
}

/// Where one lies, and what its sink was charged with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenAt {
    pub(crate) at: Location,
    pub(crate) bytes: u32,
    /// Seconds since 1970 when it was received.
    pub(crate) received: u64,
}

impl TakenEntries {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Bytes that the sink was charged with for them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn ids(&self) -> impl DoubleEndedIterator<Item = EntryId> {
        self.by_id.keys().copied()
    }

    /// The one with the lowest id.
    pub(crate) fn first(&self) -> Option<&TakenAt> {
        self.by_id.first_key_value().map(|(_, taken)| taken)
    }

    pub(crate) fn get(&self, id: EntryId) -> Option<&TakenAt> {
        self.by_id.get(&id)
    }

    pub(crate) fn insert(&mut self, id: EntryId, taken: TakenAt) {
        self.remove(id);
        self.by_id.insert(id, taken);
        *self.by_segment.entry(taken.at.segment).or_default() += 1;
        self.bytes += u64::from(taken.bytes);
    }

    pub(crate) fn remove(&mut self, id: EntryId) -> Option<TakenAt> {
        let taken = self.by_id.remove(&id)?;
        if let Entry::Occupied(mut count) = self.by_segment.entry(taken.at.segment) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.bytes -= u64::from(taken.bytes);
        Some(taken)
    }

    /// It lies somewhere else now.
    pub(crate) fn relocate(&mut self, id: EntryId, at: Location) {
        if let Some(taken) = self.remove(id) {
            self.insert(id, TakenAt { at, ..taken });
        }
    }

    /// The first segment in which any of them lies.
    pub(crate) fn first_segment(&self) -> Option<u64> {
        self.by_segment.first_key_value().map(|(segment, _)| *segment)
    }

    /// Those in a segment, with where they lie.
    pub(crate) fn in_segment(&self, segment: u64) -> Vec<(EntryId, Location)> {
        if !self.by_segment.contains_key(&segment) {
            return Vec::new();
        }
        let there = self.by_id.iter().filter(|(_, taken)| taken.at.segment == segment);
        there.map(|(id, taken)| (*id, taken.at)).collect()
    }

    /// Those behind this one, as they are written down.
    pub(crate) fn behind(&self, id: Option<EntryId>) -> Vec<Taken> {
        // A range, because looking at all of them would cost more the more are stuck.
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.by_id.range((from, Bound::Unbounded));
        behind
            .map(|(id, TakenAt { at, bytes, received })| Taken {
                sequence: id.sequence,
                destination: id.destination,
                at: *at,
                bytes: *bytes,
                received: *received,
            })
            .collect()
    }
}

impl FromIterator<Taken> for TakenEntries {
    fn from_iter<T: IntoIterator<Item = Taken>>(all: T) -> Self {
        let mut entries = Self::default();
        for Taken { sequence, destination, at, bytes, received } in all {
            entries.insert(EntryId { sequence, destination }, TakenAt { at, bytes, received });
        }
        entries
    }
}
