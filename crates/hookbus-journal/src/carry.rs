//! Copying on what slow sinks still need of the oldest segment, so that they pin none that others are done with.
//!
//! Copies go to the end of the journal like everything else. They count from the moment on the cursor of their sink
//! says so: where anything goes wrong before, they are of no use and of no harm.

use std::{collections::HashMap, io, ops::ControlFlow};

use hookbus_core::{VerifiedEvent, record::Record};

use crate::{
    backlog::{EntryId, Feed},
    cursor::{Move, Moved},
    engine::Engine,
    format::{self, Accepted, CARRIED, CARRIED_TAKEN, Carried, EVENT, Location, To},
    segment::{START, Segment},
};

/// Copies that may wait for the disk.
const UNWRITTEN: u64 = 1 << 20;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No sink needs the segment any more, as soon as their cursors are noted.
    Done,
    /// Not now: there is no room for the copies before the next segment is there, or a sink is just reading.
    NotNow,
    /// There is too much that is not delivered.
    TooMuch,
}

/// Copies what sinks need of a segment, the oldest one, to the end of the journal.
pub(crate) fn carry(engine: &Engine, oldest: &Segment) -> Outcome {
    let mut moves = Vec::new();
    let feeds = engine.feeds();
    for feed in feeds.iter().filter(|feed| feed.cursor().oldest() <= oldest.number) {
        let Some(begun) = feed.cursor().begin_move(oldest.number) else {
            // A thread reads for it; the next time it does not.
            end(moves, None);
            return Outcome::NotNow;
        };
        moves.push((&**feed, begun));
    }
    let carried = Carrying { engine, oldest, moves: &moves }.run();
    let (outcome, moved) = carried.unwrap_or_else(|error| {
        tracing::warn!(segment = oldest.number, %error, "cannot copy on what is not delivered of a segment");
        (Outcome::NotNow, None)
    });
    end(moves, moved);
    outcome
}

/// Lets the sinks go on, with what they need where it is now.
fn end(moves: Vec<(&Feed, Move)>, moved: Option<Vec<Moved>>) {
    let mut moved = moved.map(Vec::into_iter);
    for (feed, _) in moves {
        feed.cursor().moved(moved.as_mut().and_then(Iterator::next));
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
    /// What was taken, and copies that were not.
    Older,
    /// Events that were not taken.
    Newer,
}

/// One copy to make: for which of the moves, of which entry.
struct Copy<'r> {
    at: usize,
    kind: hookbus_core::record::Kind,
    about: Carried<'r>,
    /// The place of its range in the list, where it is a copy of one that was not taken.
    range: Option<usize>,
}

impl Carrying<'_> {
    /// Copies everything, and says where it is now; or nothing of it.
    ///
    /// Two passes, because copies that were not taken are older than events that were not: each sink must find its own in
    /// their old order.
    fn run(&self) -> io::Result<(Outcome, Option<Vec<Moved>>)> {
        let mut moved: Vec<_> = self.moves.iter().map(|(_, begun)| Moved::of(begun, self.oldest)).collect();
        let (mut last, mut unwritten) = (None, 0);
        for pass in [Pass::Older, Pass::Newer] {
            let mut failed = false;
            self.each(pass, |record, copies| {
                let Ok(event) = VerifiedEvent::restore(record) else { return ControlFlow::Continue(()) };
                for copy in copies {
                    let Some((sequence, at, length)) = self.copy(&copy, &event) else {
                        failed = true;
                        return ControlFlow::Break(());
                    };
                    moved[copy.at].add(&copy, at, length);
                    last = Some(sequence);
                    unwritten += u64::from(length);
                }
                if unwritten > UNWRITTEN {
                    unwritten = 0;
                    failed = !last.is_none_or(|last| self.engine.wait_until_safe(last));
                }
                if failed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if failed {
                return Ok((Outcome::NotNow, None));
            }
        }
        let safe = last.is_none_or(|last| self.engine.wait_until_safe(last));
        Ok(if safe { (Outcome::Done, Some(moved)) } else { (Outcome::NotNow, None) })
    }

    fn copy(&self, copy: &Copy<'_>, event: &VerifiedEvent) -> Option<(u64, Location, u32)> {
        let mut about = Vec::new();
        format::write(&copy.about, &mut about);
        self.engine.append_copy(copy.kind, &about, event)
    }

    /// Shows every record of which a sink needs anything, with the copies it needs.
    fn each(
        &self,
        pass: Pass,
        mut visit: impl FnMut(&Record<'_>, Vec<Copy<'_>>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let taken: Vec<HashMap<u64, Vec<EntryId>>> =
            self.moves.iter().map(|(_, begun)| by_offset(&begun.taken)).collect();
        let end = self.oldest.end().unwrap_or(self.oldest.header.capacity);
        self.oldest.scan(&self.engine.store.key, START, end, |offset, record| {
            let mut copies = Vec::new();
            for (at, (feed, begun)) in self.moves.iter().enumerate() {
                let wanted = Wanted { feed, begun, taken: taken[at].get(&offset), offset };
                wanted.copies(at, pass, record, &mut copies);
            }
            if copies.is_empty() { ControlFlow::Continue(()) } else { visit(record, copies) }
        })?;
        Ok(())
    }
}

/// What one sink needs of one record.
struct Wanted<'a> {
    feed: &'a Feed,
    begun: &'a Move,
    taken: Option<&'a Vec<EntryId>>,
    offset: u64,
}

impl Wanted<'_> {
    fn copies<'r>(&self, at: usize, pass: Pass, record: &Record<'r>, copies: &mut Vec<Copy<'r>>) {
        let mine = |to: &To<'_>| to.sink == &*self.feed.name;
        let was_taken = |id: EntryId| self.taken.is_some_and(|taken| taken.contains(&id));
        match record.head().kind {
            EVENT => {
                let Some(about) = format::read::<Accepted<'r>>(record.about()) else { return };
                let sequence = record.head().place.sequence;
                // Invariant: a record is at most 256 MiB and a little.
                let bytes = u32::try_from(record.head().record_len()).unwrap_or(u32::MAX);
                let untaken = self.begun.next.is_some_and(|next| next.offset <= self.offset);
                for (destination, to) in (0..).zip(about.destinations).filter(|(_, to)| mine(to)) {
                    let kind = match pass {
                        Pass::Older if was_taken(EntryId { sequence, destination }) => CARRIED_TAKEN,
                        Pass::Newer if untaken => CARRIED,
                        _ => continue,
                    };
                    let about = Carried { sequence, destination, bytes, to };
                    copies.push(Copy { at, kind, about, range: None });
                }
            }
            kind @ (CARRIED | CARRIED_TAKEN) if pass == Pass::Older => {
                let Some(about) = format::read::<Carried<'r>>(record.about()).filter(|about| mine(&about.to))
                else {
                    return;
                };
                let id = EntryId { sequence: about.sequence, destination: about.destination };
                let holds = |(_, (from, to)): &&(usize, (Location, Location))| {
                    (from.offset..to.offset).contains(&self.offset)
                };
                let range = self.begun.carried.iter().find(holds).map(|(place, _)| *place);
                let (kind, range) = match kind {
                    _ if was_taken(id) => (CARRIED_TAKEN, None),
                    CARRIED if range.is_some() => (CARRIED, range),
                    _ => return,
                };
                copies.push(Copy { at, kind, about, range });
            }
            _ => {}
        }
    }
}

fn by_offset(taken: &[(EntryId, Location)]) -> HashMap<u64, Vec<EntryId>> {
    let mut by_offset: HashMap<_, Vec<_>> = HashMap::new();
    for (id, at) in taken {
        by_offset.entry(at.offset).or_default().push(*id);
    }
    by_offset
}

impl Moved {
    fn of(begun: &Move, segment: &Segment) -> Self {
        let next = begun.next.map(|_| Location { segment: segment.number + 1, offset: START });
        // A range of which nothing is left is replaced by none.
        let again = begun.carried.iter().map(|(place, _)| (*place, Vec::new())).collect();
        Self { again, next, ..Self::default() }
    }

    /// A copy is at its new place.
    fn add(&mut self, copy: &Copy<'_>, at: Location, length: u32) {
        if copy.kind == CARRIED_TAKEN {
            let id = EntryId { sequence: copy.about.sequence, destination: copy.about.destination };
            self.taken.push((id, at));
            return;
        }
        let ranges = match copy.range {
            Some(place) => self.again.entry(place).or_default(),
            None => &mut self.new,
        };
        let end = Location { offset: at.offset + u64::from(length), ..at };
        match ranges.last_mut().filter(|(from, _)| from.segment == at.segment) {
            // What lies between is for other sinks, or of another kind.
            Some(range) => range.1 = end,
            None => ranges.push((at, end)),
        }
    }
}
