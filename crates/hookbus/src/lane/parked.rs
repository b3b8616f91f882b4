//! Entries of the journal for addresses that are set aside: only their ids are kept. Pure: the clock is passed in.

use std::collections::{BTreeMap, HashMap, VecDeque};

use hookbus_core::Address;
use hookbus_journal::EntryId;
use tokio::time::Instant;

use super::giving_up::Attempts;

/// Entries that wait in the journal for their place, in the order they were accepted.
///
/// As long as any entry is parked for a place, a newer one for it is parked behind: so the order of its groups holds
/// when they are read again.
#[derive(Debug, Default)]
pub(super) struct Parked {
    places: HashMap<Address, Entries>,
    /// Places to be read from, in turn; one that was held again since is skipped.
    due: VecDeque<Address>,
    len: usize,
}

/// What is parked for one place: never nothing.
#[derive(Debug, Default)]
struct Entries {
    stays: BTreeMap<EntryId, Stay>,
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Nothing,
    /// One, to try the place with.
    One,
    All,
}

/// What is known of an entry that is not in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stay {
    /// When the lane got it first.
    pub(super) since: Instant,
    /// How often it was tried.
    pub(super) attempts: Attempts,
}

impl Parked {
    /// How many are parked.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether any is parked for this place.
    pub(super) fn contains(&self, place: &Address) -> bool {
        self.places.contains_key(place)
    }

    /// Parks an entry.
    pub(super) fn park(&mut self, place: Address, id: EntryId, stay: Stay) {
        if self.places.entry(place).or_default().stays.insert(id, stay).is_none() {
            self.len += 1;
        }
    }

    /// Nothing is to be read for this place.
    pub(super) fn hold(&mut self, place: &Address) {
        if let Some(entries) = self.places.get_mut(place) {
            entries.wanted = Wanted::Nothing;
        }
    }

    /// One entry for this place is to be read.
    pub(super) fn want_one(&mut self, place: &Address) {
        self.want(place, Wanted::One);
    }

    /// All entries for this place are to be read.
    pub(super) fn want_all(&mut self, place: &Address) {
        self.want(place, Wanted::All);
    }

    fn want(&mut self, place: &Address, wanted: Wanted) {
        let Some(entries) = self.places.get_mut(place) else { return };
        entries.wanted = wanted;
        if !self.due.contains(place) {
            self.due.push_back(place.clone());
        }
    }

    /// The next one to be read; the same one until [`Parked::take`].
    pub(super) fn next(&mut self) -> Option<EntryId> {
        while let Some(place) = self.due.front() {
            let due = self.places.get(place).filter(|entries| entries.wanted != Wanted::Nothing);
            if let Some((id, _)) = due.and_then(|entries| entries.stays.first_key_value()) {
                return Some(*id);
            }
            self.due.pop_front();
        }
        None
    }

    /// Takes the one out that is next.
    pub(super) fn take(&mut self) -> Option<(EntryId, Stay)> {
        self.next()?;
        let place = self.due.pop_front()?;
        let entries = self.places.get_mut(&place)?;
        let taken = entries.stays.pop_first()?;
        self.len -= 1;
        if entries.wanted == Wanted::One {
            entries.wanted = Wanted::Nothing;
        }
        match (entries.stays.is_empty(), entries.wanted) {
            (true, _) => drop(self.places.remove(&place)),
            (false, Wanted::All) => self.due.push_back(place),
            (false, _) => {}
        }
        Some(taken)
    }

    /// Takes those for this place out that the lane has had since `then` or longer.
    pub(super) fn take_older(&mut self, place: &Address, then: Instant) -> Vec<(EntryId, Stay)> {
        let Some(entries) = self.places.get_mut(place) else { return Vec::new() };
        let old: Vec<_> = entries.stays.extract_if(.., |_, stay| stay.since <= then).collect();
        self.len -= old.len();
        if entries.stays.is_empty() {
            self.places.remove(place);
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lane::tests::address;

    fn id(sequence: u64) -> EntryId {
        EntryId { sequence, destination: 0 }
    }

    fn sequences(parked: &mut Parked) -> Vec<u64> {
        std::iter::from_fn(|| parked.take()).map(|(id, _)| id.sequence).collect()
    }

    #[test]
    fn in_order_and_in_turn() {
        let (mut parked, stay) =
            (Parked::default(), Stay { since: Instant::now(), attempts: Attempts::default() });
        let (one, two) = (address("one"), address("two"));
        for sequence in [3, 1, 5] {
            parked.park(one.clone(), id(sequence), stay);
        }
        parked.park(two.clone(), id(2), stay);
        assert_eq!(parked.next(), None);
        parked.want_one(&one);
        assert_eq!(sequences(&mut parked), [1]);
        parked.want_all(&one);
        parked.want_all(&two);
        assert_eq!(parked.next(), Some(id(3)));
        assert_eq!(sequences(&mut parked), [3, 2, 5]);
        assert!(parked.len() == 0 && !parked.contains(&one));
    }

    #[test]
    fn a_place_that_is_held_again_is_not_read() {
        let (mut parked, stay) =
            (Parked::default(), Stay { since: Instant::now(), attempts: Attempts::default() });
        parked.park(address("one"), id(1), stay);
        parked.want_all(&address("one"));
        parked.hold(&address("one"));
        assert_eq!(parked.next(), None);
    }

    #[test]
    fn only_the_old_ones_are_taken_out() {
        let mut parked = Parked::default();
        let (then, place) = (Instant::now(), address("one"));
        let later = then + Duration::from_secs(1);
        parked.park(place.clone(), id(1), Stay { since: then, attempts: Attempts::default() });
        parked.park(place.clone(), id(2), Stay { since: later, attempts: Attempts::default() });
        let old = parked.take_older(&place, then);
        assert_eq!(old.iter().map(|(id, _)| id.sequence).collect::<Vec<_>>(), [1]);
        assert_eq!(parked.len(), 1);
    }
}
