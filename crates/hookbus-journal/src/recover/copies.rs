//! Copies, where the note that says where they are is damaged.
//!
//! A segment goes when the notes that name the copies of what was needed of it are safe. Where such a note is damaged
//! later, the one before counts, and speaks of a segment that is gone. Each copy says what it was copied from, so it is
//! found.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    ops::ControlFlow,
    sync::atomic::Ordering,
};

use hookbus_core::{VerifiedEvent, record::Record};

use super::Progress;
use crate::{
    backlog::EntryId,
    cursor::{behind, seconds},
    format::{self, CARRIED, Carried, Location, Taken},
    moving::extend,
    segment::START,
    store::Store,
};

/// A copy of an entry.
#[derive(Clone, Copy, Debug)]
struct Copied {
    at: Location,
    end: Location,
    /// It is a copy of a copy.
    again: bool,
    taken: Taken,
}

/// Copies for one sink.
#[derive(Debug, Default)]
struct Copies {
    /// Those of segments that are gone, by what they were copied from.
    of: BTreeMap<(Location, EntryId), Copied>,
    /// Where any copy lies, of use or not, and of which entry.
    all: BTreeMap<Location, EntryId>,
}

/// Lets sinks that refer to segments that are gone have the copies of what was there.
pub(super) fn find(store: &Store, progress: &mut HashMap<Box<str>, Progress>) -> io::Result<()> {
    let segments: Vec<_> = store.segments().values().cloned().collect();
    let Some(first) = segments.first().map(|first| first.number) else { return Ok(()) };
    if !progress.values().any(|progress| progress.refers_before(first)) {
        return Ok(());
    }
    let mut copies: HashMap<Box<str>, Copies> = HashMap::new();
    for segment in segments {
        let end = segment.end().unwrap_or(segment.header.capacity);
        segment.scan(&store.key, START, end, |offset, record| {
            let at = Location { segment: segment.number, offset };
            collect(&mut copies, record, at, first);
            ControlFlow::Continue(())
        })?;
    }
    let damaged = store.damaged.load(Ordering::Relaxed) > 0;
    for (sink, progress) in progress.iter_mut().filter(|(_, progress)| progress.refers_before(first)) {
        progress.relocate(first, copies.remove(sink).unwrap_or_default(), damaged);
    }
    Ok(())
}

fn collect(copies: &mut HashMap<Box<str>, Copies>, record: &Record<'_>, at: Location, first: u64) {
    let about = format::read::<Carried<'_>>(record.about()).filter(|_| record.head().kind == CARRIED);
    let Some(about) = about else { return };
    for (destination, to) in &about.destinations {
        let id = EntryId { sequence: about.sequence, destination: *destination };
        copies.entry(to.sink.into()).or_default().all.entry(at).or_insert(id);
    }
    if about.from.segment >= first {
        return;
    }
    let Ok(event) = VerifiedEvent::restore(record) else { return };
    // Invariant: a record is at most 256 MiB and a little.
    let end = behind(at, u32::try_from(record.head().record_len()).unwrap_or(u32::MAX));
    for (destination, to) in &about.destinations {
        let (id, received) =
            (EntryId { sequence: about.sequence, destination: *destination }, seconds(event.received()));
        let taken =
            Taken { sequence: id.sequence, destination: id.destination, at, bytes: about.bytes, received };
        // Of several the last one: a copying that came to nothing was begun again.
        copies
            .entry(to.sink.into())
            .or_default()
            .of
            .insert((about.from, id), Copied { at, end, again: about.again, taken });
    }
}

impl Progress {
    /// Whether it speaks of segments before the first one there is.
    fn refers_before(&self, first: u64) -> bool {
        let taken = self.taken.values().any(|taken| taken.at.segment < first);
        taken || self.next.segment < first || self.carried.iter().any(|(from, _)| from.segment < first)
    }

    /// Puts copies in the place of what they were copied from, where that is gone. `damaged` says whether notes may be
    /// missing: then what was not copied was resolved.
    fn relocate(&mut self, first: u64, copies: Copies, damaged: bool) {
        let Copies { of: mut copies, all } = copies;
        let gone: Vec<_> =
            self.taken.iter().filter(|(_, taken)| taken.at.segment < first).map(|(id, _)| *id).collect();
        for id in gone {
            match copies.iter().rfind(|((_, copied), _)| *copied == id).map(|(_, copy)| copy.taken) {
                Some(copy) => {
                    self.taken.insert(id, copy);
                }
                None if damaged || self.broken => {
                    let bytes = self.taken.remove(&id).map_or(0, |taken| taken.bytes);
                    self.events = self.events.saturating_sub(1);
                    self.bytes = self.bytes.saturating_sub(u64::from(bytes));
                }
                // It is lost, and that is told when it is looked for.
                None => {}
            }
        }
        copies.retain(|(_, id), _| Some(*id) > self.passed);
        let mut carried = Vec::new();
        for (from, to) in std::mem::take(&mut self.carried) {
            if from.segment >= first {
                carried.push((from, to));
                continue;
            }
            let here = copies.extract_if(.., |(place, _), copy| copy.again && (from..to).contains(place));
            carried.extend(ranges(here.map(|((_, id), copy)| (id, copy)), &all));
        }
        // Behind them what was copied of events that it had not looked at; with no note at all, everything.
        let unknown = self.number == 0;
        copies.retain(|(from, _), _| unknown || *from >= self.next);
        if unknown {
            self.events += copies.len() as u64;
            self.bytes += copies.values().map(|copy| u64::from(copy.taken.bytes)).sum::<u64>();
        }
        carried.extend(ranges(copies.into_iter().map(|((_, id), copy)| (id, copy)), &all));
        // A copy of a copy may have been made while no note that is left knew of the first one.
        carried.sort_by_key(|(from, to)| all.range(*from..*to).next().map(|(_, id)| *id));
        self.carried = carried;
    }
}

/// Where these copies lie, in the order of their entries. `all` is where any copy for the sink lies.
fn ranges(
    copies: impl Iterator<Item = (EntryId, Copied)>,
    all: &BTreeMap<Location, EntryId>,
) -> Vec<(Location, Location)> {
    let by_id: BTreeMap<_, _> = copies.collect();
    let mut ranges: Vec<(Location, Location)> = Vec::new();
    for Copied { at, end, .. } in by_id.into_values() {
        // A range is read from end to end: what lies in between must not be another copy, which may be of a later entry.
        match ranges.last() {
            // Several entries of one record.
            Some((_, to)) if *to == end => {}
            Some((_, to)) if *to <= at && all.range(*to..at).next().is_none() => {
                extend(&mut ranges, at, end);
            }
            _ => ranges.push((at, end)),
        }
    }
    ranges
}
