//! Segments that hold nothing but notes, of starts that came to nothing: without them, starts one after the other use up the
//! disk.

use std::{io, ops::ControlFlow, sync::Arc};

use super::begins_with_checkpoint;
use crate::{
    format::{CARRIED, EVENT, Footer},
    segment::{self, START, Segment},
    store::Store,
};

/// As many checkpoints are kept as there are while it runs.
const KEPT: usize = 2;

/// Removes segments without any event or copy, where the notes behind them say everything. The first one and the last ones
/// stay. The footer of the one before says that its numbers are no more, so that nobody misses them.
pub(super) fn remove(store: &Store) -> io::Result<()> {
    let segments: Vec<_> = store.segments().values().cloned().collect();
    let Some(last) = segments.len().checked_sub(KEPT) else { return Ok(()) };
    let candidate = |segment: &Segment| segment.footer.get().is_some_and(|footer| footer.events == 0);
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
        if !candidate(segment) || !before.is_sealed() || !holds_notes_alone(store, segment)? {
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

fn holds_notes_alone(store: &Store, segment: &Segment) -> io::Result<bool> {
    let end = segment.end().unwrap_or(segment.header.capacity);
    let mut alone = true;
    let scan = segment.scan(&store.key, START, end, |_, record| {
        alone = ![EVENT, CARRIED].contains(&record.head().kind);
        if alone { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    // What is damaged may have been a copy.
    Ok(alone && scan.is_whole())
}
