//! Room for the copies of what slow sinks still need of the oldest segment.

use std::{
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use hookbus_core::{VerifiedEvent, record::Kind};

use crate::{
    commit::JournalError,
    cursor::seconds,
    engine::{Engine, NotNow},
    format::{Header, Location},
    group::{Next, Open, Reserved},
    segment::{START, Segment},
};

/// What the cursor of a sink takes in a checkpoint, beside what it has taken.
const CURSOR: u64 = 128;
/// What it takes of each entry that was taken, at most.
pub(crate) const TAKEN: u64 = 24;

/// Room that is kept for copies: events that would take it wait. Given back when dropped.
pub(crate) struct RoomForCopies<'e>(&'e Engine);

impl Drop for RoomForCopies<'_> {
    fn drop(&mut self) {
        self.0.open().kept = 0;
        self.0.turned.notify_waiters();
    }
}

impl Engine {
    /// Keeps room for so many bytes of copies, the longest of which has `longest`; nothing where not even further
    /// segments may be made for as much.
    pub(crate) fn room_for_copies(
        &self,
        oldest: &Segment,
        bytes: u64,
        longest: u64,
    ) -> Option<RoomForCopies<'_>> {
        // At the end of a segment the room of one copy may be left over; the next one begins with a checkpoint.
        let kept = bytes + longest + self.checkpoint_size();
        let (bytes, most) = (self.bytes(), self.most_with_copies(oldest));
        let mut open = self.open();
        let there = self.room_here(&open) + self.room_next(&open);
        let further = kept.saturating_sub(there).div_ceil(self.settings.segment_size);
        if bytes + further * self.settings.segment_size > most {
            return None;
        }
        open.kept = kept;
        Some(RoomForCopies(self))
    }

    /// What the copies that are still to come leave no room for in this segment.
    pub(crate) fn kept_here(&self, open: &Open) -> u64 {
        match open.kept {
            0 => 0,
            kept => kept.saturating_sub(self.room_next(open)),
        }
    }

    fn room_here(&self, open: &Open) -> u64 {
        open.room().saturating_sub(self.settings.reserve(open.segment.header.capacity))
    }

    fn room_next(&self, open: &Open) -> u64 {
        let Next::Ready(next) = &open.next else { return 0 };
        let capacity = next.header.capacity;
        capacity.saturating_sub(self.settings.reserve(capacity) + START)
    }

    /// Bytes of all segments while copies are made of the oldest one: what is over goes when they are there. That is one
    /// segment more than there may be otherwise; more only where there was too much already, or where segments were larger
    /// once.
    pub(crate) fn most_with_copies(&self, oldest: &Segment) -> u64 {
        let (size, most) = (self.settings.segment_size, self.settings.max_size);
        let fewest = self.fewest_bytes.load(Ordering::Relaxed);
        let larger = if oldest.bytes() > size { oldest.bytes() + size } else { 0 };
        let over = if fewest > most { 2 * size } else { 0 };
        most.max(fewest) + size + larger + over
    }

    /// About what the checkpoint of a segment takes.
    pub(crate) fn checkpoint_size(&self) -> u64 {
        let cursor = |taken: usize| CURSOR + TAKEN * taken as u64;
        self.feeds().iter().map(|feed| cursor(feed.cursor().taken_count())).sum()
    }

    /// Appends a copy of an event, for which further segments are made where there is need; nothing where it cannot be
    /// appended now.
    ///
    /// # Errors
    /// As the disk says of a segment.
    pub(crate) fn append_copy(
        &self,
        oldest: &Segment,
        kind: Kind,
        about: &[u8],
        event: &VerifiedEvent,
    ) -> Result<Option<(u64, Location, u32)>, JournalError> {
        loop {
            let length = (about.len() + event.size()) as u64;
            {
                let mut open = self.open();
                if open.closed_for.is_some() {
                    return Ok(None);
                }
                match self.seal(&mut open, kind, about, event) {
                    Ok(sealed) => {
                        // To nothing only where the room is given back.
                        open.kept = open.kept.saturating_sub(u64::from(sealed.2)).max(1);
                        self.wake(&open);
                        return Ok(Some(sealed));
                    }
                    Err(NotNow::Refused(JournalError::TooLarge | JournalError::Full)) => return Ok(None),
                    Err(_) => {}
                }
            }
            if !self.make_further(oldest, length)? {
                return Ok(None);
            }
        }
    }

    /// Makes the next segment for copies, the longest of which has about so many bytes. Not, where there would be too many.
    fn make_further(&self, oldest: &Segment, length: u64) -> Result<bool, JournalError> {
        let (number, mut capacity, kept) = {
            let open = self.open();
            if let Next::Ready(_) = open.next {
                return Ok(true);
            }
            (open.segment.number + 1, self.next_capacity(&open), open.kept)
        };
        if kept > capacity {
            capacity = self.settings.segment_size;
        }
        // A record may be from times when segments were larger.
        let needed = START + self.checkpoint_size() + length + 1024;
        if needed + self.settings.reserve(capacity) > capacity {
            capacity = capacity.max(needed + needed / 4);
        }
        if self.bytes() + capacity > self.most_with_copies(oldest) {
            return Ok(false);
        }
        let header = Header { begun: seconds(SystemTime::now()), capacity };
        let made = Segment::make(&*self.store.folder, &self.store.key, number, header);
        let made = made.map_err(|error| JournalError::Disk(Arc::new(error)))?;
        let mut open = self.open();
        open.next = Next::Ready(Arc::new(made));
        open.reserved = Reserved::ForCopies;
        Ok(true)
    }
}
