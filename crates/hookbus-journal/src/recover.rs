//! Opening a journal: what it holds, how far each sink has got, and where it goes on.

mod copies;
mod superfluous;
mod tables;

pub(crate) use tables::{Held, acceptances, correct_table, held, read_tables};

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    ops::ControlFlow,
    sync::Arc,
    time::{Instant, SystemTime},
};

use hookbus_core::{
    RecordKey,
    record::{Head, Place, Record},
};
use thiserror::Error;

use crate::{
    backlog::{EntryId, Feed},
    cursor::{Cursor, seconds},
    dedup::Dedup,
    engine::Engine,
    folder::{Folder, rewrite},
    format::{
        self, Accepted, CHECKPOINT, CURSOR, Checkpoint, CursorNote, EVENT, Footer, Header, Location, Taken,
    },
    group::{Group, Next, Open, Reserved},
    journal::{Settings, SinkSettings},
    keeper::FIRST,
    known::Known,
    segment::{self, Evidence, NoSegment, START, Segment},
    store::Store,
};

/// Why a journal cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unopenable {
    /// The disk refused.
    #[error("cannot open the journal: {0}")]
    Io(#[from] io::Error),
    /// A newer version of this program wrote it.
    #[error("segment {segment} of the journal: {why}")]
    Newer {
        /// The segment.
        segment: u64,
        /// Which version.
        why: String,
    },
    /// It was written under a key that is not this one.
    #[error("segment {segment} of the journal was written under another key than the one in `key`")]
    OtherKey {
        /// The segment.
        segment: u64,
    },
}

/// How far a sink has got, by what the journal says.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    number: u64,
    next: Location,
    passed: Option<EntryId>,
    carried: Vec<(Location, Location)>,
    taken: BTreeMap<EntryId, Taken>,
    events: u64,
    bytes: u64,
    /// A note is missing: those that build on it count no more. What they say is delivered may be delivered again.
    broken: bool,
}

/// Opens the journal of a folder.
pub(crate) fn open(
    folder: Arc<dyn Folder>,
    key: RecordKey,
    settings: Settings,
    sinks: &[SinkSettings],
) -> Result<Engine, Unopenable> {
    let segment_size = Settings::fitting(settings.segment_size, settings.max_size);
    let settings = Settings { segment_size, ..settings };
    let store = Arc::new(Store::new(folder, key));
    let now = SystemTime::now();
    let (dedup, damaged) = Dedup::open(Arc::clone(&store.folder), &store.key, settings.dedup, now)?;
    let mut known = Known::new(dedup, Vec::new());
    for segment in &damaged {
        tracing::warn!(
            segment,
            "the table of a segment is damaged, and is made again where its segment is there"
        );
    }
    let last_number = read_segments(&store)?;
    let (progress, last_sequence) = replay(&store)?;
    read_tables(&store, &mut known, now)?;
    for segment in damaged {
        if !known.is_made_again(segment) {
            // What cannot be removed is left out all the same.
            let _ = known.dedup.forget(segment, now);
        }
    }
    for segment in store.take_spoilt() {
        correct_table(&store, &mut known, segment, now)?;
    }
    superfluous::remove(&store, &progress)?;
    store.segments().values().for_each(|segment| segment.is_open());
    // Small again: restarts must not use up the disk.
    let capacity = FIRST.min(settings.segment_size);
    let header = Header { begun: seconds(SystemTime::now()), capacity };
    let number = last_number + 1;
    let segment = Arc::new(Segment::make(&*store.folder, &store.key, number, header)?);
    store.segments().insert(number, Arc::clone(&segment));
    let head = Location { segment: number, offset: START };
    let open = Open {
        group: Group::at(head, last_sequence + 1),
        closed: Default::default(),
        unsafe_yet: Default::default(),
        next_sequence: last_sequence + 1,
        durable: last_sequence + 1,
        safe: head,
        segment,
        next: Next::Awaited,
        reserved: Reserved::No,
        kept: 0,
        known,
        events: 0,
        notes_at: Instant::now(),
        closed_for: None,
        idle: false,
    };
    let feeds = feeds(progress, sinks, head);
    Ok(Engine::new(store, settings, feeds, open))
}

/// The sinks of the list, and behind them those that still have something to get.
pub(crate) fn feeds(
    mut progress: HashMap<Box<str>, Progress>,
    sinks: &[SinkSettings],
    head: Location,
) -> Vec<Arc<Feed>> {
    let feed = |name: &Arc<str>, progress: Option<Progress>, max_pending| {
        let pending = progress.as_ref().map_or((0, 0), |progress| (progress.events, progress.bytes));
        let cursor = progress.map_or_else(|| Cursor::at(head), |progress| progress.cursor(head));
        Arc::new(Feed::new(Arc::clone(name), cursor, pending, max_pending))
    };
    let mut feeds: Vec<_> =
        sinks.iter().map(|sink| feed(&sink.name, progress.remove(&*sink.name), sink.max_pending)).collect();
    let mut left: Vec<_> = progress.into_iter().filter(|(_, progress)| progress.events > 0).collect();
    left.sort_by(|one, other| one.0.cmp(&other.0));
    feeds.extend(left.into_iter().map(|(name, progress)| feed(&name.into(), Some(progress), 0)));
    feeds
}

/// Reads the first pages of all segments, and whole those that were not sealed. The number of the last one.
pub(crate) fn read_segments(store: &Store) -> Result<u64, Unopenable> {
    let mut numbers: Vec<_> = store.folder.names()?.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    let last = numbers.last().copied().unwrap_or(0);
    // From the end, because a segment is begun only when all of the one before is safe.
    let mut next: Option<Arc<Segment>> = None;
    for number in numbers.into_iter().rev() {
        let segment = match Segment::open(&*store.folder, &store.key, number) {
            Ok(segment) => segment,
            Err(NoSegment::Io(error)) => return Err(error.into()),
            Err(why @ NoSegment::Newer(_)) => {
                return Err(Unopenable::Newer { segment: number, why: why.to_string() });
            }
            Err(NoSegment::OtherKey) => return Err(Unopenable::OtherKey { segment: number }),
            Err(NoSegment::Damaged) => Segment::without_header(&*store.folder, number)?,
        };
        if segment.footer.get().is_none() {
            let end = next.as_ref().map(|next| last_before(store, next)).transpose()?.flatten();
            if !read_unsealed(store, &segment, end)? {
                store.spoil(number);
                store.folder.remove(&segment::name(number))?;
                continue;
            }
        }
        let segment = Arc::new(segment);
        store.segments().insert(number, Arc::clone(&segment));
        next = Some(segment);
    }
    Ok(last)
}

/// The number of the last record before a segment, where its first one can be read.
pub(crate) fn last_before(store: &Store, segment: &Segment) -> io::Result<Option<u64>> {
    let mut first = None;
    let end = segment.end().unwrap_or(segment.header.capacity);
    segment.scan(&store.key, START, end, |offset, record| {
        first = (offset == START).then_some(record.head().place.sequence);
        ControlFlow::Break(())
    })?;
    Ok(first.and_then(|first| first.checked_sub(1)))
}

/// Reads a segment that was being written when the bridge ended, and seals it; `end` is the number of its last record,
/// where that is known. Whether it holds anything.
fn read_unsealed(store: &Store, segment: &Segment, end: Option<u64>) -> Result<bool, Unopenable> {
    let mut events = 0;
    // Records that nothing behind them says are safe.
    let mut late: VecDeque<(u64, u64, usize)> = VecDeque::new();
    // What was cut off is a hole too.
    let capacity = segment.header.capacity.max(START + 1);
    let scan = segment.scan(&store.key, START, capacity, |offset, record| {
        let Head { kind, place, .. } = *record.head();
        events += u64::from(kind == EVENT);
        while late.front().is_some_and(|(sequence, ..)| *sequence < place.durable) {
            late.pop_front();
        }
        late.push_back((place.sequence, offset, record.head().record_len()));
        ControlFlow::Continue(())
    })?;
    // Where nothing says which record is the last one, it may lie in what cannot be read: to end the segment before that would
    // cut off acknowledged events in silence. The disk may be away for a while, too.
    if (end.is_none() || scan.last.is_none()) && segment.has_unreadable_behind(scan.next.max(START)) {
        let what = format!(
            "{} cannot be read behind byte {}, where its newest events may be; nothing was changed",
            segment::name(segment.number),
            scan.next.max(START)
        );
        return Err(io::Error::other(what).into());
    }
    // What was read may be in the system's memory only: it counts when it is on disk. After an fsync that failed the system
    // takes it for written, so that another one alone would do nothing.
    for (_, offset, length) in late {
        rewrite(&*segment.file, offset, length)?;
    }
    segment.file.sync()?;
    let mut footer =
        Footer { end: scan.next, events, sealed: seconds(SystemTime::now()), ..Footer::default() };
    match end {
        Some(last_sequence) => {
            let known = Evidence::Footer(Footer { last_sequence, ..footer });
            store.report(segment, &scan, known, None);
        }
        None => {
            store.report(segment, &scan, Evidence::Records, None);
            footer.torn = scan.torn();
        }
    }
    let Some(last_sequence) = scan.last else { return Ok(false) };
    footer.last_sequence = last_sequence;
    // Where that fails it is read again the next time.
    if let Err(error) = segment.seal(&store.key, footer) {
        tracing::warn!(segment = segment.number, %error, "cannot write the footer of a segment");
    }
    Ok(true)
}

/// Reads the journal from the last checkpoint on: how far each sink has got, and the number of the last record.
pub(crate) fn replay(store: &Store) -> Result<(HashMap<Box<str>, Progress>, u64), Unopenable> {
    let segments: Vec<_> = store.segments().values().cloned().collect();
    let mut from = segments.len();
    // Without any checkpoint everything there is counts as not delivered.
    while from > 0 {
        from -= 1;
        if begins_with_checkpoint(store, &segments[from])? {
            break;
        }
    }
    let mut last_sequence =
        segments.iter().filter_map(|segment| Some(segment.footer.get()?.last_sequence)).max();
    let mut progress: HashMap<Box<str>, Progress> = HashMap::new();
    for segment in &segments[from..] {
        let end = segment.end().unwrap_or(segment.header.capacity);
        // A note of the group that a power cut tore counts events that are gone. Nobody was told of it.
        let torn = segment.footer.get().map(|footer| footer.torn).filter(|(_, until)| *until > 0);
        let scan = segment.scan(&store.key, START, end, |_, record| {
            let Head { kind, place: Place { sequence, .. }, .. } = *record.head();
            last_sequence = last_sequence.max(Some(sequence));
            if kind != CURSOR || torn.is_none_or(|(from, _)| sequence < from) {
                apply(&mut progress, record);
            }
            ControlFlow::Continue(())
        })?;
        store.report(segment, &scan, Evidence::of(segment), None);
    }
    copies::find(store, &mut progress)?;
    Ok((progress, last_sequence.unwrap_or(0)))
}

/// Whether a segment begins with a checkpoint that is all there.
pub(crate) fn begins_with_checkpoint(store: &Store, segment: &Segment) -> io::Result<bool> {
    let mut missing = None;
    let end = segment.end().unwrap_or(segment.header.capacity);
    segment.scan(&store.key, START, end, |offset, record| {
        let content = record.about();
        match (record.head().kind, missing) {
            (CHECKPOINT, None) if offset == START => {
                missing = format::read::<Checkpoint>(content).map(|checkpoint| checkpoint.cursors);
            }
            (CURSOR, Some(left)) if left > 0 => {
                let full = format::read::<CursorNote<'_>>(content).is_some_and(|note| note.full);
                missing = full.then(|| left - 1);
            }
            _ => return ControlFlow::Break(()),
        }
        if missing.is_none_or(|left| left == 0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(missing == Some(0))
}

/// What one record says about how far sinks have got.
fn apply(progress: &mut HashMap<Box<str>, Progress>, record: &Record<'_>) {
    match record.head().kind {
        EVENT => {
            let Some(about) = format::read::<Accepted<'_>>(record.about()) else { return };
            for to in &about.destinations {
                // A sink without a cursor: its checkpoint is lost, so everything there is may be for it.
                let progress = of(progress, to.sink);
                progress.events += 1;
                progress.bytes += record.head().record_len() as u64;
            }
        }
        CURSOR => {
            let Some(note) = format::read::<CursorNote<'_>>(record.about()) else { return };
            of(progress, note.sink).apply(note);
        }
        _ => {}
    }
}

fn of<'p>(progress: &'p mut HashMap<Box<str>, Progress>, sink: &str) -> &'p mut Progress {
    let unknown = || Progress { broken: true, ..Progress::default() };
    if !progress.contains_key(sink) {
        progress.insert(sink.into(), unknown());
    }
    progress.entry(sink.into()).or_insert_with(unknown)
}

impl Progress {
    fn apply(&mut self, note: CursorNote<'_>) {
        let follows = note.number == self.number + 1 && !self.broken;
        if !note.full && !follows {
            self.broken = true;
            return;
        }
        if note.full {
            self.taken.clear();
            self.broken = false;
        }
        for (sequence, destination) in note.resolved {
            self.taken.remove(&EntryId { sequence, destination });
        }
        for taken in note.taken {
            let id = EntryId { sequence: taken.sequence, destination: taken.destination };
            self.taken.insert(id, taken);
        }
        (self.number, self.next, self.carried) = (note.number, note.next, note.carried);
        self.passed = note.passed.map(|(sequence, destination)| EntryId { sequence, destination });
        (self.events, self.bytes) = (note.pending_events, note.pending_bytes);
    }

    fn cursor(self, head: Location) -> Cursor {
        let taken = self.taken.into_values().collect();
        Cursor::restored(self.next, head, self.passed, self.carried, taken)
    }
}

#[cfg(test)]
mod tests;
