//! What one sink has to get.

use std::{
    io,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hookbus_core::{Address, VerifiedEvent, record::Record};
use tokio::sync::Notify;

use crate::{
    cursor::{Ahead, Cursor, From, NOTE_AFTER, ToRead},
    engine::Engine,
    format::{self, Accepted, CARRIED, Carried, EVENT, Location, To},
    segment::{Evidence, START},
    store::Store,
};

/// What an entry is known by, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// The number of its record.
    pub sequence: u64,
    /// Which destination of that record it is: an event may go to several addresses of one sink.
    pub destination: u16,
}

/// An event of the journal on its way to one address of a sink.
#[derive(Clone, Debug)]
pub struct Entry {
    /// By this it is resolved.
    pub id: EntryId,
    /// The event.
    pub event: VerifiedEvent,
    /// Where it goes.
    pub address: Address,
}

/// How much may be taken.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Events at most.
    pub events: usize,
    /// Bytes of records at most; a single larger one comes all the same.
    pub bytes: usize,
}

/// What one sink has to get, in the order it was accepted. The lane of the sink owns it.
#[derive(Debug)]
pub struct Backlog {
    feed: Arc<Feed>,
    store: Arc<Store>,
    engine: Arc<Engine>,
}

/// The journal's side of a sink.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) name: Arc<str>,
    cursor: Mutex<Cursor>,
    /// Something may be there to take.
    pub(crate) more: Notify,
    pub(crate) events: AtomicU64,
    pub(crate) bytes: AtomicU64,
    max_pending: AtomicU64,
    /// The first segment that the cursor on disk needs.
    pub(crate) needed: AtomicU64,
}

impl Feed {
    pub(crate) fn new(name: Arc<str>, cursor: Cursor, pending: (u64, u64), max_pending: u64) -> Self {
        let needed = AtomicU64::new(cursor.oldest());
        let (events, bytes) = (AtomicU64::new(pending.0), AtomicU64::new(pending.1));
        let max_pending = AtomicU64::new(max_pending);
        Self { name, cursor: Mutex::new(cursor), more: Notify::new(), events, bytes, max_pending, needed }
    }

    pub(crate) fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes it may have to get at most; nothing, where it is in nobody's list.
    pub(crate) fn max_pending(&self) -> u64 {
        self.max_pending.load(Ordering::Relaxed)
    }

    /// It may have so much to get from now on.
    pub(crate) fn allow(&self, max_pending: u64) {
        self.max_pending.store(max_pending, Ordering::Relaxed);
    }

    /// A record of so many bytes is for this sink, `times` of its destinations.
    pub(crate) fn add(&self, bytes: u64) {
        self.events.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It is done with, or was not accepted after all.
    pub(crate) fn subtract(&self, bytes: u64) {
        // Not below nothing, whatever damage has done to the counts.
        let less = |counter: &AtomicU64, by: u64| {
            let _ =
                counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(by)));
        };
        less(&self.events, 1);
        less(&self.bytes, bytes);
    }

    /// Events and bytes it has to get altogether.
    pub(crate) fn pending(&self) -> (u64, u64) {
        (self.events.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl Backlog {
    pub(crate) fn new(feed: Arc<Feed>, engine: Arc<Engine>) -> Self {
        Self { feed, store: Arc::clone(&engine.store), engine }
    }

    /// Waits until there may be something to take. May be cancelled.
    pub async fn ready(&self) {
        loop {
            let more = self.feed.more.notified();
            if self.feed.cursor().has_more() {
                return;
            }
            more.await;
        }
    }

    /// Takes the next entries. What is not in memory is read from disk by a thread that may block; an empty answer means
    /// that there is nothing now. Where the wait is cancelled, nothing is lost.
    ///
    /// # Errors
    /// As the disk says; the entries are still there.
    pub async fn take(&mut self, room: Room) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let job = {
            let mut cursor = self.feed.cursor();
            cursor.take(room, &mut entries);
            if entries.is_empty() { cursor.next_read() } else { None }
        };
        let Some(job) = job else { return Ok(entries) };
        let (feed, store) = (Arc::clone(&self.feed), Arc::clone(&self.store));
        let reading = tokio::task::spawn_blocking(move || {
            let mut unread = Unread { feed: &feed, job: &job, done: false };
            let found = read(&store, &feed, &job)?;
            unread.done = true;
            feed.cursor().read(&job, Some(found));
            io::Result::Ok(())
        });
        // Where the runtime is shutting down nothing is read any more.
        reading.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))?;
        self.feed.cursor().take(room, &mut entries);
        Ok(entries)
    }

    /// Reads an entry that was taken, and is not resolved, once more from disk: so that the body of one that has to wait
    /// for long need not be held.
    ///
    /// # Errors
    /// As the disk says; [`io::ErrorKind::NotFound`] where there is no such entry, [`io::ErrorKind::InvalidData`] where
    /// its record is damaged.
    pub async fn again(&self, id: EntryId) -> io::Result<Entry> {
        let (feed, store) = (Arc::clone(&self.feed), Arc::clone(&self.store));
        let reading = tokio::task::spawn_blocking(move || {
            // Its record may be moved while it is looked for.
            loop {
                let at = feed.cursor().place(id).ok_or(io::ErrorKind::NotFound)?;
                match one(&store, &feed.name, id, at) {
                    Ok(found) => return Ok(found.entry),
                    Err(error) if feed.cursor().place(id) == Some(at) => return Err(error),
                    Err(_) => {}
                }
            }
        });
        reading.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
    }

    /// The entry is delivered, or a dead letter that is safe: it is never handed out again.
    pub fn resolve(&self, id: EntryId) {
        self.resolve_all([id]);
    }

    /// The same for many at once.
    pub fn resolve_all(&self, ids: impl IntoIterator<Item = EntryId>) {
        let mut cursor = self.feed.cursor();
        let stuck = cursor.is_stuck();
        for bytes in ids.into_iter().filter_map(|id| cursor.resolve(id)) {
            self.feed.subtract(bytes);
        }
        let many = cursor.changes() >= NOTE_AFTER;
        let freed = stuck && !cursor.is_stuck();
        drop(cursor);
        if freed {
            self.feed.more.notify_one();
        }
        if many {
            // They are noted at once, also where nothing comes: whatever is not noted would be delivered again.
            self.engine.wake(&self.engine.open());
        }
    }

    /// How many entries may be taken and not resolved: at that, nothing new is handed out before some are. It depends on the
    /// size of segments, as each begins with all of them.
    pub fn most_taken(&self) -> usize {
        self.feed.cursor().most_taken
    }

    /// Whether nothing is left for the sink: nothing to take, and nothing taken that is not resolved.
    pub fn is_done(&self) -> bool {
        self.feed.cursor().is_done()
    }

    /// The name of the sink.
    pub fn sink(&self) -> &Arc<str> {
        &self.feed.name
    }
}

/// Tells the cursor that nothing was read, however it came to that, and in any case that there may be something to take:
/// whoever asked may be gone, and somebody else may wait by now.
struct Unread<'a> {
    feed: &'a Feed,
    job: &'a ToRead,
    done: bool,
}

impl Drop for Unread<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.feed.cursor().read(self.job, None);
        }
        self.feed.more.notify_one();
    }
}

/// Entries read from disk at once.
const READ_EVENTS: usize = 1024;
const READ_BYTES: u64 = 2 << 20;

/// Reads what the cursor asked for, and where the next record is.
pub(crate) fn read(store: &Store, feed: &Feed, job: &ToRead) -> io::Result<(Vec<Ahead>, Location)> {
    let sink = &*feed.name;
    match job {
        ToRead::Returned(entries) => {
            let mut found = Vec::new();
            for (id, at) in entries {
                match one(store, sink, *id, *at) {
                    Ok(ahead) => found.push(Ahead { from: From::Returned, ..ahead }),
                    // It must not hold up the rest.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        store.lost(*id, *at, sink);
                        feed.cursor().resolve(*id).into_iter().for_each(|bytes| feed.subtract(bytes));
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok((found, Location::default()))
        }
        ToRead::Carried(from, to) => records(store, sink, *from, *to, |at, record, bytes| {
            if record.head().kind != CARRIED {
                return Vec::new();
            }
            carried(record, sink, at, bytes)
        }),
        ToRead::Records(from, to) => records(store, sink, *from, *to, |at, record, bytes| {
            if record.head().kind != EVENT {
                return Vec::new();
            }
            accepted(record, sink, at, bytes)
        }),
    }
}

/// Reads records in order until there is enough.
fn records(
    store: &Store,
    sink: &str,
    from: Location,
    to: Location,
    entries: impl Fn(Location, &Record<'_>, u32) -> Vec<Ahead>,
) -> io::Result<(Vec<Ahead>, Location)> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut at = from;
    // Each round reads to the end of a segment, or until there is enough.
    loop {
        let Some(segment) = store.segment_from(at.segment) else { return Ok((found, at)) };
        if segment.number > at.segment {
            at = Location { segment: segment.number, offset: START };
        }
        if at >= to {
            return Ok((found, to));
        }
        let end = if segment.number == to.segment { Some(to.offset) } else { segment.end() };
        // Only the last one has no end, and that is where `to` is.
        let Some(end) = end else { return Ok((found, at)) };
        let mut enough = false;
        let scan = segment.scan(&store.key, at.offset, end, |offset, record| {
            if enough {
                return ControlFlow::Break(());
            }
            // Invariant: a record is at most 256 MiB and a little.
            let length = u32::try_from(record.head().record_len()).unwrap_or(u32::MAX);
            let here = Location { segment: segment.number, offset };
            for ahead in entries(here, record, length) {
                bytes += u64::from(length);
                found.push(ahead);
            }
            enough = found.len() >= READ_EVENTS || bytes >= READ_BYTES;
            ControlFlow::Continue(())
        })?;
        store.report(&segment, &scan, Evidence::of(&segment), Some(sink));
        if enough && scan.next < end {
            return Ok((found, Location { segment: segment.number, offset: scan.next }));
        }
        at = match segment.number == to.segment {
            true => return Ok((found, to)),
            false => Location { segment: segment.number + 1, offset: START },
        };
        if enough {
            return Ok((found, at));
        }
    }
}

/// The entries of an event's record for this sink.
fn accepted(record: &Record<'_>, sink: &str, at: Location, bytes: u32) -> Vec<Ahead> {
    let Some(about) = format::read::<Accepted<'_>>(record.about()) else { return Vec::new() };
    let numbered = (0..).zip(&about.destinations).filter(|(_, to)| to.sink == sink);
    entries(record, record.head().place.sequence, numbered, at, bytes)
}

/// The entries of a copied record for this sink.
fn carried(record: &Record<'_>, sink: &str, at: Location, bytes: u32) -> Vec<Ahead> {
    let Some(about) = format::read::<Carried<'_>>(record.about()) else { return Vec::new() };
    let mine = about.destinations.iter().filter(|(_, to)| to.sink == sink);
    let mut entries = entries(record, about.sequence, mine.map(|(at, to)| (*at, to)), at, bytes);
    for entry in &mut entries {
        (entry.from, entry.counts) = (From::Carried, about.bytes);
    }
    entries
}

/// The entries of a record for these destinations.
fn entries<'d, 'a: 'd>(
    record: &Record<'_>,
    sequence: u64,
    destinations: impl Iterator<Item = (u16, &'d To<'a>)>,
    at: Location,
    bytes: u32,
) -> Vec<Ahead> {
    let mut destinations = destinations.peekable();
    if destinations.peek().is_none() {
        return Vec::new();
    }
    let Ok(event) = VerifiedEvent::restore(record) else { return Vec::new() };
    let entry = |(destination, to): (u16, &To<'_>)| {
        Ahead::new(EntryId { sequence, destination }, event.clone(), to.address(), at, bytes)
    };
    destinations.map(entry).collect()
}

/// Reads one entry where it lies.
fn one(store: &Store, sink: &str, id: EntryId, at: Location) -> io::Result<Ahead> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let segment = store.segment(at.segment).ok_or_else(damaged)?;
    let entries = segment.read_one(&store.key, at.offset, |record| {
        // Invariant: a record is at most 256 MiB and a little.
        let length = u32::try_from(record.head().record_len()).unwrap_or(u32::MAX);
        match record.head().kind {
            EVENT => accepted(record, sink, at, length),
            CARRIED => carried(record, sink, at, length),
            _ => Vec::new(),
        }
    })?;
    entries.into_iter().flatten().find(|ahead| ahead.entry.id == id).ok_or_else(damaged)
}
