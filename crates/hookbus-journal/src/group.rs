//! Records that wait for the disk together.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Instant, SystemTime},
};

use hookbus_core::{
    Address, RecordKey, VerifiedEvent,
    record::{Kind, Place, TooLarge},
};
use smallvec::SmallVec;

use crate::{
    commit::{Commit, GroupState, JournalError},
    cursor::seconds,
    format::{Footer, Location},
    known::Known,
    segment::{START, Segment},
};

/// The most room that is made for a group before there is anything in it.
const LIKELY_BYTES: usize = 256 << 10;
const LIKELY_EVENTS: usize = 128;

/// Records that are written at once and share an fsync.
#[derive(Debug)]
pub(crate) struct Group {
    /// Where its first record goes.
    pub(crate) at: Location,
    pub(crate) buffer: Vec<u8>,
    pub(crate) events: Vec<New>,
    pub(crate) commit: Arc<GroupState>,
    /// Cursors in it: sinks by their place, with the first segment they then need.
    pub(crate) cursors: Vec<(usize, u64)>,
    /// Behind the number of its last record.
    pub(crate) until: u64,
}

/// An event of a group.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) sequence: u64,
    pub(crate) at: Location,
    pub(crate) bytes: u32,
    pub(crate) event: VerifiedEvent,
    /// Sinks by their place, with which destination of the record it is.
    pub(crate) to: SmallVec<[(usize, u16, Address); 2]>,
}

impl Group {
    pub(crate) fn at(at: Location, sequence: u64) -> Self {
        let commit = Arc::default();
        Self { at, buffer: Vec::new(), events: Vec::new(), commit, cursors: Vec::new(), until: sequence }
    }

    /// The group behind this one, with room for about as much.
    fn next(&self, sequence: u64) -> Self {
        let mut next = Self::at(self.end(), sequence);
        // A large one may have been the only one of its kind.
        next.buffer.reserve(self.buffer.len().next_power_of_two().min(LIKELY_BYTES));
        next.events.reserve(self.events.len().next_power_of_two().min(LIKELY_EVENTS));
        next
    }

    /// Behind its last record.
    pub(crate) fn end(&self) -> Location {
        Location { offset: self.at.offset + self.buffer.len() as u64, ..self.at }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// What is appended to, under one lock.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) group: Group,
    /// Groups that end a segment; they are written before `group`.
    pub(crate) closed: VecDeque<Group>,
    /// What is not known to be safe: behind its last number, and who waits for it. In order.
    pub(crate) unsafe_yet: VecDeque<(u64, Arc<GroupState>)>,
    pub(crate) next_sequence: u64,
    /// Everything before this number is safe.
    pub(crate) durable: u64,
    /// Where what is safe ends.
    pub(crate) safe: Location,
    /// The segment that is appended to, and the one that comes next.
    pub(crate) segment: Arc<Segment>,
    pub(crate) next: Next,
    /// Who may go on in the next one.
    pub(crate) reserved: Reserved,
    /// Bytes of copies that are still to come: events must not take the last room there is for them.
    pub(crate) kept: u64,
    /// Which events were accepted before.
    pub(crate) known: Known,
    /// Events accepted in this segment.
    pub(crate) events: u64,
    /// When cursors were noted last.
    pub(crate) notes_at: Instant,
    /// Nothing is appended any more, and why.
    pub(crate) closed_for: Option<JournalError>,
    /// The writer waits for work.
    pub(crate) idle: bool,
}

/// Who may go on in the next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// Everybody.
    No,
    /// Copies and cursors, until the oldest segment can go; events wait.
    ForCopies,
    /// The same, and events do not wait: too much is not delivered.
    Full,
}

/// The segment behind the one that is appended to.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is being made.
    Awaited,
    /// It is there, empty.
    Ready(Arc<Segment>),
    /// It cannot be made now.
    Refused(JournalError),
}

impl Open {
    /// Appends a record to the group: its number, where it is and how long it is.
    pub(crate) fn seal(
        &mut self,
        key: &RecordKey,
        kind: Kind,
        about: &[u8],
        event: Option<&VerifiedEvent>,
    ) -> Result<(u64, Location, u32), TooLarge> {
        let sequence = self.next_sequence;
        let at = self.group.end();
        let place = Place { generation: at.segment, sequence, durable: self.durable };
        let buffer = &mut self.group.buffer;
        match event {
            Some(event) => key.seal_event(place, kind, about, event, buffer)?,
            None => key.seal_note(place, kind, about, buffer)?,
        }
        self.next_sequence += 1;
        self.group.until = self.next_sequence;
        // Invariant: a record is at most 256 MiB and a little.
        let bytes = u32::try_from(self.group.end().offset - at.offset).unwrap_or(u32::MAX);
        Ok((sequence, at, bytes))
    }

    /// Where the next record goes, to come [back to](Self::back_to).
    pub(crate) fn mark(&self) -> (usize, u64) {
        (self.group.buffer.len(), self.next_sequence)
    }

    /// Takes back what was appended since.
    pub(crate) fn back_to(&mut self, (length, sequence): (usize, u64)) {
        self.group.buffer.truncate(length);
        self.next_sequence = sequence;
        self.group.until = sequence;
    }

    /// Bytes the segment still takes.
    pub(crate) fn room(&self) -> u64 {
        self.segment.header.capacity.saturating_sub(self.group.end().offset)
    }

    /// What is written down of the segment when nothing more is appended to it.
    pub(crate) fn footer(&self) -> Footer {
        Footer {
            end: self.group.end().offset,
            last_sequence: self.next_sequence - 1,
            events: self.events,
            sealed: seconds(SystemTime::now()),
            torn: (0, 0),
        }
    }

    /// Takes the group that is written next; nothing where there is none.
    pub(crate) fn take(&mut self) -> Option<Group> {
        let group = match self.closed.pop_front() {
            Some(group) => group,
            None if self.group.is_empty() => return None,
            None => {
                let next = self.group.next(self.next_sequence);
                std::mem::replace(&mut self.group, next)
            }
        };
        self.unsafe_yet.push_back((group.until, Arc::clone(&group.commit)));
        Some(group)
    }

    /// Bytes of records that wait to be written.
    pub(crate) fn unwritten(&self) -> usize {
        self.group.buffer.len() + self.closed.iter().map(|group| group.buffer.len()).sum::<usize>()
    }

    /// The commit of a record that was appended.
    pub(crate) fn commit_of(&self, sequence: u64) -> Commit {
        if sequence < self.durable {
            return Commit::done();
        }
        let written = self.unsafe_yet.iter().find(|(until, _)| sequence < *until).map(|(_, commit)| commit);
        let closed = || self.closed.iter().find(|group| sequence < group.until).map(|group| &group.commit);
        Commit::new(written.or_else(closed).unwrap_or(&self.group.commit))
    }

    /// Ends the segment: what comes from now on goes into the next one.
    pub(crate) fn turn_over(&mut self, next: Arc<Segment>) {
        let at = Location { segment: next.number, offset: START };
        let group = std::mem::replace(&mut self.group, Group::at(at, self.next_sequence));
        if !group.is_empty() {
            self.closed.push_back(group);
        }
        self.segment = next;
        self.next = Next::Awaited;
        self.events = 0;
    }
}
