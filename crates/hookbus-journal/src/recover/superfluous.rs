//! Segments that hold nothing but notes, and copies that no cursor names, of starts that came to nothing: if they stayed,
//! starts one after the other would use up the disk.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    ops::ControlFlow,
    sync::Arc,
};

use super::{Progress, begins_with_checkpoint};
use crate::{
    format::{EVENT, Footer},
    segment::{self, START, Segment},
    store::Store,
};

/// As many checkpoints are kept as there are while it runs.
const KEPT: usize = 2;

/// Removes segments without any event or copy that counts, where the notes behind them say everything. The first one and the last ones
/// stay. The footer of the one before says that its numbers are no more, so that nobody misses them.
pub(super) fn remove(store: &Store, progress: &HashMap<Box<str>, Progress>) -> io::Result<()> {
    let segments: Vec<_> = store.segments().values().cloned().collect();
    let Some(last) = segments.len().checked_sub(KEPT) else { return Ok(()) };
    let named = named(progress);
    let candidate = |segment: &Segment| {
        let empty = segment.footer.get().is_some_and(|footer| footer.events == 0);
        empty && !named.contains(&segment.number)
    };
    if !segments[1.min(last)..last].iter().any(|segment| candidate(segment)) {
        return Ok(());
    }
    for segment in &segments[last..] {
        if !begins_with_checkpoint(store, segment)? {
            return Ok(());
        }
    }
    let mut before = Arc::clone(&segments[0]);
    for segment in &segments[1.min(last)..last] {
        let footers = (before.footer.get().copied(), segment.footer.get().copied());
        let (Some(kept), Some(gone)) = footers else { continue };
        if !candidate(segment) || !before.is_sealed() || !holds_no_event(store, segment)? {
            before = Arc::clone(segment);
            continue;
        }
        before.seal(&store.key, Footer { last_sequence: gone.last_sequence, ..kept })?;
        store.folder.remove(&segment::name(segment.number))?;
        store.segments().remove(&segment.number);
        // With the footer it has now.
        if let Ok(again) = Segment::open(&*store.folder, &store.key, before.number) {
            before = Arc::new(again);
            store.segments().insert(before.number, Arc::clone(&before));
        }
    }
    store.folder.sync()
}

/// The segments in which something lies that sinks have taken, or copies that they have to get.
fn named(progress: &HashMap<Box<str>, Progress>) -> BTreeSet<u64> {
    let taken = progress.values().flat_map(|progress| progress.taken.values().map(|taken| taken.at.segment));
    let carried =
        progress.values().flat_map(|progress| progress.carried.iter().map(|(from, _)| from.segment));
    taken.chain(carried).collect()
}

fn holds_no_event(store: &Store, segment: &Segment) -> io::Result<bool> {
    let end = segment.end().unwrap_or(segment.header.capacity);
    let mut none = true;
    let scan = segment.scan(&store.key, START, end, |_, record| {
        none = record.head().kind != EVENT;
        if none { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    // What is damaged may have been an event.
    Ok(none && scan.is_whole())
}
