//! How far one sink has got.

use std::collections::VecDeque;

use hookbus_core::{Address, VerifiedEvent};

use crate::{
    backlog::{Entry, EntryId, Room},
    format::{CursorNote, Location},
    moving::{Move, Moved},
    taken::{TakenAt, TakenEntries},
};

/// Entries held in memory for a sink to take: so many, or so many bytes.
const AHEAD: Room = Room { events: 2048, bytes: 4 << 20 };

/// So many changes are noted with the next group.
pub(crate) const NOTE_AFTER: usize = 512;

/// How far a sink has got, and what is in memory for it.
///
/// Whatever was written for the sink before `next` is resolved, or in `taken`, or in `ahead`, or in `carried`. Entries are
/// taken in the order of their ids: what was taken since the last note is a range, and what has an id up to `passed` was
/// taken, wherever it is met again.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// In memory and not taken, in order.
    ahead: VecDeque<Ahead>,
    ahead_bytes: usize,
    /// Taken before a restart: to be read again first.
    returned: VecDeque<EntryId>,
    /// Copied records that were not read, in order; they come before what stands at `next`.
    carried: VecDeque<(Location, Location)>,
    /// The first record that was not looked at. Where it is `head`, new entries come from memory.
    next: Location,
    /// Where what is safe on disk ends.
    head: Location,
    taken: TakenEntries,
    /// The last entry that was taken.
    passed: Option<EntryId>,
    /// No more are taken while so many are: the whole cursor must fit into a segment.
    pub(crate) most_taken: usize,
    /// A thread reads from disk for `ahead`.
    reading: bool,
    /// Records of it are being copied: nothing is read meanwhile.
    pub(crate) moving: bool,
    noted: Noted,
}

/// What the journal knows of the cursor.
#[derive(Debug, Default)]
struct Noted {
    number: u64,
    /// The last entry that was taken by then.
    up_to: Option<EntryId>,
    /// Entries it knows as taken and that are resolved since.
    resolved: Vec<EntryId>,
    /// What changed since: entries taken, resolved, or looked at and not for this sink.
    changes: usize,
    /// The next note tells everything.
    full: bool,
}

/// An entry in memory.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) entry: Entry,
    pub(crate) at: Location,
    /// Bytes of the record it was read from.
    pub(crate) bytes: u32,
    /// Bytes its sink was charged with: those of the record it was accepted with.
    pub(crate) counts: u32,
    pub(crate) from: From,
}

/// Where an entry in memory came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Its own record.
    Record,
    /// A copied record.
    Carried,
    /// It was taken before a restart.
    Returned,
}

/// What is to be read from disk next.
#[derive(Debug)]
pub(crate) enum ToRead {
    /// Entries that were taken before a restart, with where they are.
    Returned(Vec<(EntryId, Location)>),
    /// Copied records from here to there.
    Carried(Location, Location),
    /// Records from here to there.
    Records(Location, Location),
}

impl Cursor {
    /// A cursor of a sink that has nothing to get.
    pub(crate) fn at(head: Location) -> Self {
        Self { next: head, head, noted: Noted { full: true, ..Noted::default() }, ..Self::default() }
    }

    /// A cursor as the journal knows it. Nothing is in memory yet.
    pub(crate) fn restored(
        next: Location,
        head: Location,
        passed: Option<EntryId>,
        carried: Vec<(Location, Location)>,
        taken: TakenEntries,
    ) -> Self {
        let returned = taken.ids().collect();
        let mut cursor = Self { next, passed, carried: carried.into(), taken, returned, ..Self::at(head) };
        cursor.noted.up_to = passed;
        cursor
    }

    /// What is safe on disk ends here now, without anything new for this sink.
    pub(crate) fn set_head(&mut self, head: Location) {
        if self.next == self.head {
            self.next = head;
        }
        self.head = head;
    }

    /// New entries of this sink are safe on disk, which ends at `head` now. Whether any is there to take.
    pub(crate) fn committed(&mut self, entries: impl Iterator<Item = Ahead>, head: Location) -> bool {
        let caught_up = self.next == self.head;
        self.head = head;
        if !caught_up {
            return true;
        }
        // Records are taken whole: what of one has no room is read from disk with the rest of it.
        let mut last: Option<Location> = None;
        for entry in entries {
            let begins = last != Some(entry.at);
            if begins && (self.is_full() || self.moving) {
                self.next = entry.at;
                return true;
            }
            last = Some(entry.at);
            self.push(entry);
        }
        self.next = head;
        !self.ahead.is_empty()
    }

    fn push(&mut self, entry: Ahead) {
        self.ahead_bytes += entry.bytes as usize;
        self.ahead.push_back(entry);
    }

    fn is_full(&self) -> bool {
        self.ahead.len() >= AHEAD.events || self.ahead_bytes >= AHEAD.bytes
    }

    /// Takes entries that are in memory: whole records, in order.
    pub(crate) fn take(&mut self, room: Room, into: &mut Vec<Entry>) {
        let mut bytes = 0;
        let mut last = None;
        while let Some(first) = self.ahead.front() {
            let whole = last == Some(first.at);
            let full =
                into.len() >= room.events || (!into.is_empty() && bytes + first.bytes as usize > room.bytes);
            if ((full || self.is_stuck()) && !whole) || self.moving {
                break;
            }
            // Invariant: there is a first one.
            let Some(Ahead { entry, at, bytes: length, counts, from }) = self.ahead.pop_front() else {
                break;
            };
            self.ahead_bytes -= length as usize;
            bytes += length as usize;
            last = Some(at);
            if from == From::Carried {
                // It is no longer among those that were not taken.
                let first = self.carried.front_mut().filter(|(from, to)| (*from..*to).contains(&at));
                if let Some((from, to)) = first {
                    *from = behind(at, length);
                    if from >= to {
                        self.carried.pop_front();
                    }
                }
            }
            if from != From::Returned {
                let received = seconds(entry.event.received());
                self.taken.insert(entry.id, TakenAt { at, bytes: counts, received });
                self.passed = Some(entry.id);
            }
            self.noted.changes += 1;
            into.push(entry);
        }
    }

    /// What has to be read from disk before anything can be taken; nothing where something can, or where there is nothing.
    /// The caller reads it and calls [`Cursor::read`].
    pub(crate) fn next_read(&mut self) -> Option<ToRead> {
        if self.reading || self.moving || !self.ahead.is_empty() {
            return None;
        }
        let job = if !self.returned.is_empty() {
            let ids = self.returned.iter().take(256);
            // What was resolved meanwhile is not read.
            let there = ids.filter_map(|id| Some((*id, self.taken.get(*id)?.at))).collect();
            ToRead::Returned(there)
        } else if let Some((from, to)) = self.carried.front() {
            ToRead::Carried(*from, *to)
        } else if self.next < self.head {
            ToRead::Records(self.next, self.head)
        } else {
            return None;
        };
        self.reading = true;
        Some(job)
    }

    /// Whether anything can be taken, or read to be taken.
    pub(crate) fn has_more(&self) -> bool {
        let on_disk = !self.returned.is_empty() || !self.carried.is_empty() || self.next < self.head;
        !self.moving && !self.is_stuck() && (!self.ahead.is_empty() || (on_disk && !self.reading))
    }

    /// Whether so much is taken that nothing new is handed out before some of it is resolved.
    pub(crate) fn is_stuck(&self) -> bool {
        let again = self.ahead.front().map_or(!self.returned.is_empty(), |next| next.from == From::Returned);
        self.most_taken > 0 && self.taken.len() >= self.most_taken && !again
    }

    /// Whether nothing is left: nothing to take, and nothing taken that is not resolved.
    pub(crate) fn is_done(&self) -> bool {
        !self.has_more() && !self.reading && !self.moving && self.taken.is_empty()
    }

    /// What was read. `until` is where the next record is that was not looked at; nothing where reading failed.
    pub(crate) fn read(&mut self, job: &ToRead, found: Option<(Vec<Ahead>, Location)>) {
        self.reading = false;
        let Some((entries, until)) = found else { return };
        match job {
            ToRead::Returned(_) => {
                let asked = self.returned.len().min(256);
                self.returned.drain(..asked);
                entries.into_iter().for_each(|entry| self.push(entry));
                return;
            }
            ToRead::Carried(..) => {}
            ToRead::Records(..) => {
                self.next = until;
                self.noted.changes += 1;
            }
        }
        let mut last = self.passed;
        for entry in entries {
            // A copied record may hold what this sink had taken before, beside what others had not.
            if Some(entry.entry.id) > last {
                last = Some(entry.entry.id);
                self.push(entry);
            }
        }
        if let (ToRead::Carried(from, to), true) = (job, self.ahead.is_empty()) {
            self.carried.pop_front();
            if (*from..*to).contains(&until) && until > *from {
                self.carried.push_front((until, *to));
            }
        }
    }

    /// Whether everything that is safe on disk was looked at: then it knows how many entries it has, and their bytes.
    pub(crate) fn all_held(&self) -> Option<(u64, u64)> {
        if self.reading || self.moving || !self.carried.is_empty() || self.next < self.head {
            return None;
        }
        let fresh = self.ahead.iter().filter(|ahead| ahead.from != From::Returned);
        let held = (self.taken.len() as u64, self.taken.bytes());
        Some(fresh.fold(held, |(events, bytes), ahead| (events + 1, bytes + u64::from(ahead.counts))))
    }

    /// Where an entry that is taken lies.
    pub(crate) fn place(&self, id: EntryId) -> Option<Location> {
        self.taken.get(id).map(|taken| taken.at)
    }

    /// How many entries are taken.
    pub(crate) fn taken_count(&self) -> usize {
        self.taken.len()
    }

    /// The entry is done with. Its bytes, where it was not before.
    pub(crate) fn resolve(&mut self, id: EntryId) -> Option<u64> {
        let taken = self.taken.remove(id)?;
        self.noted.changes += 1;
        if self.noted.up_to.is_some_and(|up_to| id <= up_to) {
            self.noted.resolved.push(id);
        }
        Some(u64::from(taken.bytes))
    }

    /// How much has changed since the last note.
    pub(crate) fn changes(&self) -> usize {
        self.noted.changes
    }

    /// Says everything in the next note: the last one may not be on disk.
    pub(crate) fn note_all(&mut self) {
        self.noted.full = true;
        self.noted.changes += NOTE_AFTER;
    }

    /// The first record that nobody has taken from.
    fn first_untaken(&self) -> Location {
        self.ahead.iter().find(|ahead| ahead.from == From::Record).map_or(self.next, |ahead| ahead.at)
    }

    /// Writes down how far it is; from then on that counts as noted.
    pub(crate) fn note<'a>(&mut self, sink: &'a str, pending: (u64, u64), full: bool) -> CursorNote<'a> {
        let full = full || self.noted.full;
        let resolved = std::mem::take(&mut self.noted.resolved);
        let resolved = resolved.into_iter().filter(|_| !full);
        let note = CursorNote {
            sink,
            number: self.noted.number + 1,
            full,
            next: self.first_untaken(),
            passed: self.passed.map(|id| (id.sequence, id.destination)),
            carried: self.carried.iter().copied().collect(),
            pending_events: pending.0,
            pending_bytes: pending.1,
            taken: self.taken.behind(self.noted.up_to.filter(|_| !full)),
            resolved: resolved.map(|id| (id.sequence, id.destination)).collect(),
        };
        self.noted = Noted { number: note.number, up_to: self.passed, ..Noted::default() };
        note
    }

    /// The first segment that is needed for it.
    pub(crate) fn oldest(&self) -> u64 {
        let carried = self.carried.iter().map(|(from, _)| from.segment);
        self.taken.first_segment().into_iter().chain(carried).fold(self.first_untaken().segment, u64::min)
    }

    /// When the oldest entry that is taken or in memory was received, in seconds since 1970.
    pub(crate) fn oldest_received(&self) -> Option<u64> {
        let taken = self.taken.first().map(|taken| taken.received);
        taken.or_else(|| self.ahead.front().map(|ahead| seconds(ahead.entry.event.received())))
    }

    /// Begins to move what it needs of a segment, the oldest one: which taken entries lie there, where the first record
    /// in it is that was not taken from, and which copied ones. Nothing where a thread reads for it.
    pub(crate) fn begin_move(&mut self, segment: u64) -> Option<Move> {
        if self.reading || self.moving {
            return None;
        }
        self.moving = true;
        // What is in memory is read again from where it will be.
        self.next = self.first_untaken();
        self.ahead.retain(|ahead| ahead.from == From::Returned);
        self.ahead_bytes = self.ahead.iter().map(|ahead| ahead.bytes as usize).sum();
        // Anywhere in the list: what was copied before lies behind what was not.
        let carried = self.carried.iter().enumerate().filter(|(_, (from, _))| from.segment == segment);
        Some(Move {
            taken: self.taken.in_segment(segment),
            passed: self.passed,
            carried: carried.map(|(at, range)| (at, *range)).collect(),
            next: (self.next.segment <= segment).then_some(self.next),
        })
    }

    /// What was to be moved is somewhere else, safe on disk; nothing where it could not be. What had been taken and could
    /// not be copied, because it is damaged, is resolved: those entries, where they lay, and their bytes.
    pub(crate) fn moved(&mut self, begun: &Move, moved: Option<Moved>) -> Vec<(EntryId, Location, u64)> {
        self.moving = false;
        let Some(Moved { taken, mut again, new, next }) = moved else { return Vec::new() };
        for (id, at) in taken {
            self.taken.relocate(id, at);
        }
        let left = begun.taken.iter().filter(|(id, at)| self.place(*id) == Some(*at));
        let left: Vec<_> = left.copied().collect();
        let lost = left.into_iter().filter_map(|(id, at)| Some((id, at, self.resolve(id)?))).collect();
        // Each range is replaced where it stands, so that the order stays.
        let old = std::mem::take(&mut self.carried).into_iter().enumerate();
        self.carried = old.flat_map(|(at, range)| again.remove(&at).unwrap_or_else(|| vec![range])).collect();
        // What was moved from `next` on comes behind all copied ones there were before.
        self.carried.extend(new);
        self.next = next.map_or(self.next, |next| next.max(self.next));
        self.note_all();
        lost
    }
}

impl Ahead {
    pub(crate) fn new(id: EntryId, event: VerifiedEvent, address: Address, at: Location, bytes: u32) -> Self {
        Self { entry: Entry { id, event, address }, at, bytes, counts: bytes, from: From::Record }
    }
}

/// Behind a record.
pub(crate) fn behind(at: Location, bytes: u32) -> Location {
    Location { offset: at.offset + u64::from(bytes), ..at }
}

pub(crate) fn seconds(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
