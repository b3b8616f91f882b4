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

/// Copies what sinks need of a segment, the oldest one, to the end of the journal, where that is no more than half of it.
/// Whether no sink needs it any more, as soon as their cursors are noted.
pub(crate) fn carry(engine: &Engine, oldest: &Segment) -> bool {
    let mut moves = Vec::new();
    for feed in engine.feeds.iter().filter(|feed| feed.cursor().oldest() <= oldest.number) {
        let Some(begun) = feed.cursor().begin_move(oldest.number) else {
            // A thread reads for it; the next time it does not.
            end(moves, None);
            return false;
        };
        moves.push((&**feed, begun));
    }
    let carried = Carrying { engine, oldest, moves: &moves }.run();
    let done = match carried {
        Ok(moved) => moved,
        Err(error) => {
            tracing::warn!(segment = oldest.number, %error, "cannot copy on what is not delivered of a segment");
            None
        }
    };
    let success = done.is_some();
    end(moves, done);
    success
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
}

impl Carrying<'_> {
    /// Copies everything; nothing where that is too much, or where there is no room.
    ///
    /// Two passes, because copies that were not taken are older than events that were not: each sink must find its own in
    /// their old order.
    fn run(&self) -> io::Result<Option<Vec<Moved>>> {
        let mut bytes = 0;
        for pass in [Pass::Older, Pass::Newer] {
            self.each(pass, |record, copies| {
                bytes += (record.head().record_len() * copies.len()) as u64;
                ControlFlow::Continue(())
            })?;
        }
        if bytes > self.oldest.header.capacity / 2 {
            return Ok(None);
        }
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
                    moved[copy.at].add(&copy, pass, at, length);
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
                return Ok(None);
            }
        }
        let safe = last.is_none_or(|last| self.engine.wait_until_safe(last));
        Ok(safe.then_some(moved))
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
                let untaken = self.begun.next.is_some_and(|next| next.offset <= self.offset);
                for (destination, to) in (0..).zip(about.destinations).filter(|(_, to)| mine(to)) {
                    let kind = match pass {
                        Pass::Older if was_taken(EntryId { sequence, destination }) => CARRIED_TAKEN,
                        Pass::Newer if untaken => CARRIED,
                        _ => continue,
                    };
                    copies.push(Copy { at, kind, about: Carried { sequence, destination, to } });
                }
            }
            kind @ (CARRIED | CARRIED_TAKEN) if pass == Pass::Older => {
                let Some(about) = format::read::<Carried<'r>>(record.about()).filter(|about| mine(&about.to))
                else {
                    return;
                };
                let id = EntryId { sequence: about.sequence, destination: about.destination };
                let untaken = self
                    .begun
                    .carried
                    .iter()
                    .any(|(from, to)| (from.offset..to.offset).contains(&self.offset));
                let kind = match kind {
                    _ if was_taken(id) => CARRIED_TAKEN,
                    CARRIED if untaken => CARRIED,
                    _ => return,
                };
                copies.push(Copy { at, kind, about });
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
        Self { carried: begun.carried.len(), next, ..Self::default() }
    }

    /// A copy is at its new place.
    fn add(&mut self, copy: &Copy<'_>, pass: Pass, at: Location, length: u32) {
        if copy.kind == CARRIED_TAKEN {
            let id = EntryId { sequence: copy.about.sequence, destination: copy.about.destination };
            self.taken.push((id, at));
            return;
        }
        let (again, new) = &mut self.carried_ranges;
        let ranges = if pass == Pass::Older { again } else { new };
        let end = Location { offset: at.offset + u64::from(length), ..at };
        match ranges.last_mut().filter(|(from, _)| from.segment == at.segment) {
            // What lies between is for other sinks, or of another kind.
            Some(range) => range.1 = end,
            None => ranges.push((at, end)),
        }
    }
}
