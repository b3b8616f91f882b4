//! The identities of one segment in memory.

use std::collections::HashMap;

use super::{
    DestinationHash, Identity,
    format::{Entry, HELD},
    found::Found,
    identity::AsItIs,
};

/// The identities of a segment, while it has no file of them.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: HashMap<Identity, Slot, AsItIs>,
    /// Destinations that found no room in their slot.
    more: HashMap<Identity, Vec<u32>, AsItIs>,
}

/// Small, as there may be hundreds of thousands.
#[derive(Debug, Default)]
struct Slot {
    accepted: u32,
    /// A number in bytes, which need no gap before them.
    sequence: [u8; 8],
    destinations: [u32; HELD],
}

impl Table {
    /// A table that grows to so many without moving any.
    pub(super) fn for_about(count: usize) -> Self {
        Self { slots: HashMap::with_capacity_and_hasher(count, AsItIs::default()), more: HashMap::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// When the newest event was accepted.
    pub(super) fn newest(&self) -> Option<u32> {
        self.slots.values().map(|slot| slot.accepted).max()
    }

    pub(super) fn insert(
        &mut self,
        identity: Identity,
        destinations: &[DestinationHash],
        accepted: u32,
        sequence: u64,
    ) {
        let slot = self.slots.entry(identity).or_default();
        slot.accepted = slot.accepted.max(accepted);
        slot.sequence = sequence.max(u64::from_le_bytes(slot.sequence)).to_le_bytes();
        for destination in destinations.iter().map(|destination| destination.get()) {
            match slot.destinations.iter_mut().find(|held| **held == 0 || **held == destination) {
                Some(held) => *held = destination,
                None => {
                    let more = self.more.entry(identity).or_default();
                    if !more.contains(&destination) {
                        more.push(destination);
                    }
                }
            }
        }
    }

    pub(super) fn find(&self, identity: &Identity, earliest: u32, found: &mut Option<Found>) {
        let Some(slot) = self.slots.get(identity).filter(|slot| slot.accepted >= earliest) else { return };
        let more = self.more.get(identity).map_or(&[][..], Vec::as_slice);
        let destinations = slot.destinations.iter().chain(more).copied();
        Found::add(found, slot.accepted, Some(u64::from_le_bytes(slot.sequence)), destinations);
    }

    /// As they stand in a file: in order, and one after the other where an event has more destinations than one holds.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<_> = self.slots.iter().map(|(identity, slot)| slot.entry(identity)).collect();
        for (identity, more) in &self.more {
            let accepted = self.slots[identity].accepted;
            entries.extend(more.chunks(HELD).map(|some| {
                let destinations = std::array::from_fn(|at| some.get(at).copied().unwrap_or(0));
                Entry { identity: *identity, accepted, destinations }
            }));
        }
        entries.sort_unstable_by_key(|entry| entry.identity);
        entries
    }
}

impl Slot {
    fn entry(&self, identity: &Identity) -> Entry {
        Entry { identity: *identity, accepted: self.accepted, destinations: self.destinations }
    }
}
