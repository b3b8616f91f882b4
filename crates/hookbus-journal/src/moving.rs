//! What a sink needs of a segment that has to go, and where it is then.

use std::collections::HashMap;

use crate::{backlog::EntryId, format::Location};

/// What a sink needs of a segment.
#[derive(Debug, Default)]
pub(crate) struct Move {
    pub(crate) taken: Vec<(EntryId, Location)>,
    /// The last entry it has taken of all.
    pub(crate) passed: Option<EntryId>,
    /// Ranges of copied records, with their place in the list.
    pub(crate) carried: Vec<(usize, (Location, Location))>,
    /// The first record that was not looked at, where that is not behind the segment.
    pub(crate) next: Option<Location>,
}

/// Where it is now.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) taken: Vec<(EntryId, Location)>,
    /// Where copied records are now, by the place of their range in the list.
    pub(crate) again: HashMap<usize, Vec<(Location, Location)>>,
    /// Where what had not been looked at is.
    pub(crate) new: Vec<(Location, Location)>,
    /// The first record behind the segment.
    pub(crate) next: Option<Location>,
}

/// One thing that a sink needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// An entry it has taken.
    Taken(EntryId),
    /// An entry it has not taken, copied before: of the range at this place in the list.
    Again(usize),
    /// An entry it has not looked at.
    New,
}

impl Move {
    /// What it needs of an entry in the segment, if anything. `copied` says whether its record is a copy.
    pub(crate) fn need(&self, id: EntryId, at: Location, copied: bool, was_taken: bool) -> Option<Need> {
        if was_taken {
            return Some(Need::Taken(id));
        }
        if Some(id) <= self.passed {
            return None;
        }
        if !copied {
            return self.next.is_some_and(|next| next <= at).then_some(Need::New);
        }
        let range = self.carried.iter().find(|(_, (from, to))| (*from..*to).contains(&at));
        range.map(|(place, _)| Need::Again(*place))
    }
}

impl Moved {
    /// Nothing is there yet; `behind` is the first place behind the segment.
    pub(crate) fn of(begun: &Move, behind: Location) -> Self {
        // A range of which nothing is left is replaced by none.
        let again = begun.carried.iter().map(|(place, _)| (*place, Vec::new())).collect();
        Self { again, next: begun.next.map(|_| behind), ..Self::default() }
    }

    /// Its record is copied from `at` to `end`.
    pub(crate) fn add(&mut self, need: Need, at: Location, end: Location) {
        match need {
            Need::Taken(id) => self.taken.push((id, at)),
            Need::Again(place) => extend(self.again.entry(place).or_default(), at, end),
            Need::New => extend(&mut self.new, at, end),
        }
    }
}

/// Adds a record to a list of ranges.
pub(crate) fn extend(ranges: &mut Vec<(Location, Location)>, at: Location, end: Location) {
    match ranges.last_mut().filter(|(from, _)| from.segment == at.segment) {
        // What lies between is for other sinks, or was taken.
        Some(range) => range.1 = end,
        None => ranges.push((at, end)),
    }
}
