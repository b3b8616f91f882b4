//! Copying on what slow sinks still need of the oldest segment, so that they pin none that others are done with.
//!
//! Copies go to the end of the journal like everything else. They count from the moment on the cursor of their sink
//! says so: where anything goes wrong before, they are of no use and of no harm.

use std::{collections::HashMap, io, ops::ControlFlow, time::Instant};

use hookbus_core::{VerifiedEvent, record::Record};
use smallvec::SmallVec;

use crate::{
    backlog::{EntryId, Feed},
    commit::JournalError,
    cursor::behind,
    engine::Engine,
    format::{self, Accepted, CARRIED, Carried, EVENT, Location, To},
    moving::{Move, Moved, Need},
    segment::{Evidence, START, Segment},
};

/// Copies that may wait for the disk.
const UNWRITTEN: u64 = 1 << 20;

/// What a copy is longer than its record, about.
const MORE: u64 = 64;

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// No sink needs the segment any more, as soon as their cursors are noted.
    Done,
    /// Not now, and that passes: a sink is just reading, or the disk cannot be read or written.
    NotNow,
    /// There is too much that is not delivered.
    TooMuch,
    /// The segment that the copies need cannot be made.
    Refused(JournalError),
}

/// Why not everything was copied.
enum Stopped {
    NotNow,
    TooMuch,
    Refused(JournalError),
    Unreadable(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Copies what sinks need of a segment, the oldest one, to the end of the journal.
pub(crate) fn carry(engine: &Engine, oldest: &Segment) -> Outcome {
    let mut moves = Vec::new();
    let feeds = engine.feeds();
    for feed in feeds.iter().filter(|feed| feed.cursor().oldest() <= oldest.number) {
        let Some(begun) = feed.cursor().begin_move(oldest.number) else {
            // A thread reads for it; the next time it does not.
            end(engine, moves, None);
            return Outcome::NotNow;
        };
        moves.push((&**feed, begun));
    }
    let carried = Carrying { engine, oldest, moves: &moves }.run();
    let (outcome, moved) = match carried {
        Ok(moved) => (Outcome::Done, Some(moved)),
        Err(Stopped::NotNow) => (Outcome::NotNow, None),
        Err(Stopped::TooMuch) => (Outcome::TooMuch, None),
        Err(Stopped::Refused(error)) => (Outcome::Refused(error), None),
        Err(Stopped::Unreadable(error)) => {
            tracing::warn!(segment = oldest.number, %error, "cannot copy on what is not delivered of a segment");
            *engine.unreadable() = Some(Instant::now());
            (Outcome::NotNow, None)
        }
    };
    end(engine, moves, moved);
    outcome
}

/// Lets the sinks go on, with what they need where it is now.
fn end(engine: &Engine, moves: Vec<(&Feed, Move)>, moved: Option<Vec<Moved>>) {
    let mut moved = moved.map(Vec::into_iter);
    for (feed, begun) in moves {
        let lost = feed.cursor().moved(&begun, moved.as_mut().and_then(Iterator::next));
        for (id, at, bytes) in lost {
            engine.store.tell_lost(id, at, &feed.name);
            feed.subtract(bytes);
        }
        feed.more.notify_one();
    }
}

struct Carrying<'a> {
    engine: &'a Engine,
    oldest: &'a Segment,
    moves: &'a [(&'a Feed, Move)],
}

/// Which of a segment's records are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Copies.
    Older,
    /// Events.
    Newer,
}

/// A copy to make, for all sinks that need it.
struct Copy<'r> {
    about: Carried<'r>,
    /// By which of the moves, and what for.
    needs: SmallVec<[(usize, Need); 2]>,
}

impl Carrying<'_> {
    /// Copies everything, and says where it is now; or nothing of it.
    ///
    /// Two passes, because copies that were not taken are older than events that were not: each sink must find its own in
    /// their old order.
    fn run(&self) -> Result<Vec<Moved>, Stopped> {
        let next = Location { segment: self.oldest.number + 1, offset: START };
        let mut moved: Vec<_> = self.moves.iter().map(|(_, begun)| Moved::of(begun, next)).collect();
        // Half of them would only take the room that the next try needs.
        let (needed, longest) = self.count()?;
        let room = self.engine.room_for_copies(self.oldest, needed, longest).ok_or(Stopped::TooMuch)?;
        let (mut last, mut unwritten) = (None, 0);
        for pass in [Pass::Older, Pass::Newer] {
            let mut stopped = None;
            self.each(pass, |record, copy| {
                let Ok(event) = VerifiedEvent::restore(record) else { return ControlFlow::Continue(()) };
                let (sequence, at, length) = match self.copy(&copy, &event) {
                    Ok(Some(copied)) => copied,
                    Ok(None) => {
                        stopped = Some(Stopped::NotNow);
                        return ControlFlow::Break(());
                    }
                    Err(error) => {
                        stopped = Some(Stopped::Refused(error));
                        return ControlFlow::Break(());
                    }
                };
                copy.needs.iter().for_each(|(by, need)| moved[*by].add(*need, at, behind(at, length)));
                last = Some(sequence);
                unwritten += u64::from(length);
                if unwritten > UNWRITTEN {
                    unwritten = 0;
                    if !self.engine.wait_until_safe(sequence) {
                        stopped = Some(Stopped::NotNow);
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })?;
            if let Some(stopped) = stopped {
                return Err(stopped);
            }
        }
        // They are all there: events need not wait until they are safe.
        drop(room);
        let safe = last.is_none_or(|last| self.engine.wait_until_safe(last));
        if safe { Ok(moved) } else { Err(Stopped::NotNow) }
    }

    /// How many bytes the copies will have about, and the longest of them.
    fn count(&self) -> Result<(u64, u64), Stopped> {
        let (mut needed, mut longest, mut charged, mut once) = (0, 0, 0, 0);
        for pass in [Pass::Older, Pass::Newer] {
            self.each(pass, |record, copy| {
                let length = record.head().record_len() as u64 + MORE;
                needed += length;
                longest = length.max(longest);
                once += u64::from(copy.about.bytes);
                charged += u64::from(copy.about.bytes) * copy.needs.len() as u64;
                ControlFlow::Continue(())
            })?;
        }
        self.engine.overlap().put(self.oldest.number, once, charged);
        if needed > 0 && self.engine.is_too_much() { Err(Stopped::TooMuch) } else { Ok((needed, longest)) }
    }

    fn copy(
        &self,
        copy: &Copy<'_>,
        event: &VerifiedEvent,
    ) -> Result<Option<(u64, Location, u32)>, JournalError> {
        let mut about = Vec::new();
        format::write(&copy.about, &mut about);
        self.engine.append_copy(self.oldest, CARRIED, &about, event)
    }

    /// Shows every record of which a sink needs anything, with the copy to make.
    fn each(
        &self,
        pass: Pass,
        mut visit: impl FnMut(&Record<'_>, Copy<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let taken: Vec<HashMap<u64, Vec<EntryId>>> =
            self.moves.iter().map(|(_, begun)| by_offset(&begun.taken)).collect();
        let end = self.oldest.end().unwrap_or(self.oldest.header.capacity);
        let scan = self.oldest.scan(&self.engine.store.key, START, end, |offset, record| {
            match self.copy_of(pass, offset, record, &taken) {
                Some(copy) => visit(record, copy),
                None => ControlFlow::Continue(()),
            }
        })?;
        // Nobody reads it after this.
        self.engine.store.report(self.oldest, &scan, Evidence::of(self.oldest), None);
        Ok(())
    }

    /// The copy of a record that sinks need; nothing where none does. `taken` is which entries at which offset each of
    /// them has taken.
    fn copy_of<'r>(
        &self,
        pass: Pass,
        offset: u64,
        record: &Record<'r>,
        taken: &[HashMap<u64, Vec<EntryId>>],
    ) -> Option<Copy<'r>> {
        let from = Location { segment: self.oldest.number, offset };
        let mut about = match (record.head().kind, pass) {
            (EVENT, Pass::Newer) => {
                let Accepted { destinations } = format::read(record.about())?;
                let sequence = record.head().place.sequence;
                // Invariant: a record is at most 256 MiB and a little.
                let bytes = u32::try_from(record.head().record_len()).unwrap_or(u32::MAX);
                let destinations = (0..).zip(destinations).collect();
                Carried { sequence, bytes, from, again: false, destinations }
            }
            (CARRIED, Pass::Older) => Carried { from, again: true, ..format::read(record.about())? },
            _ => return None,
        };
        let mut needs = SmallVec::new();
        let needed = |(destination, to): &mut (u16, To<'r>)| {
            let mine = |(feed, _): &(&Feed, Move)| *feed.name == *to.sink;
            let Some(by) = self.moves.iter().position(mine) else { return false };
            let id = EntryId { sequence: about.sequence, destination: *destination };
            let was_taken = taken[by].get(&offset).is_some_and(|taken| taken.contains(&id));
            let need = self.moves[by].1.need(id, from, about.again, was_taken);
            needs.extend(need.map(|need| (by, need)));
            need.is_some()
        };
        about.destinations.retain(needed);
        (!needs.is_empty()).then_some(Copy { about, needs })
    }
}

fn by_offset(taken: &[(EntryId, Location)]) -> HashMap<u64, Vec<EntryId>> {
    let mut by_offset: HashMap<_, Vec<_>> = HashMap::new();
    for (id, at) in taken {
        by_offset.entry(at.offset).or_default().push(*id);
    }
    by_offset
}
