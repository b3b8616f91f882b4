//! Appending: records are put into a group under one lock; a thread writes groups and fsyncs them.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hookbus_core::{VerifiedEvent, record::Kind};
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::{
    backlog::Feed,
    commit::{Appended, Commit, JournalError},
    cursor::Cursor,
    dedup::Identities,
    format::{self, Accepted, EVENT, Location, To},
    gap::Gap,
    group::{Group, New, Next, Open, Reserved},
    journal::{Destination, Settings, SinkSettings},
    known::{Asked, KnownFiles},
    overlap::Overlap,
    store::Store,
};

/// Bytes of records that may wait for the disk.
const UNWRITTEN: usize = 64 << 20;
/// How long the writer waits for work before it looks for cursors to note.
pub(crate) const IDLE: Duration = Duration::from_millis(250);

/// What the threads of a journal share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) settings: Settings,
    feeds: RwLock<Arc<[Arc<Feed>]>>,
    /// Events that were known since it was opened.
    pub(crate) duplicates: AtomicU64,
    pub(crate) known_files: KnownFiles,
    pub(crate) open: Mutex<Open>,
    pub(crate) work: Condvar,
    /// Cuts the writer's gap short.
    pub(crate) more: Condvar,
    pub(crate) gap: Gap,
    /// More is safe on disk.
    pub(crate) safe: Condvar,
    /// Groups whose fate is known and was not told yet, in order.
    pub(crate) finished: Mutex<Vec<Finished>>,
    pub(crate) finish: Notify,
    /// Everything before this number was told to those who wait, and handed to the sinks.
    pub(crate) told: AtomicU64,
    /// Another segment can be appended to.
    pub(crate) turned: Notify,
    pub(crate) keeping: Keeping,
    /// Cuts the writer's waits short.
    pub(crate) pause: Keeping,
    /// When the oldest segment could not be read to be copied.
    unreadable: Mutex<Option<Instant>>,
    overlap: Mutex<Overlap>,
    /// The fewest bytes there were on disk since it was opened.
    pub(crate) fewest_bytes: AtomicU64,
    pub(crate) stopping: AtomicBool,
    /// The writer has ended.
    pub(crate) ended: AtomicBool,
}

/// By this a thread is woken.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    asked: Mutex<bool>,
    ask: Condvar,
}

#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) group: Group,
    pub(crate) result: Result<(), JournalError>,
}

/// Why a record was not appended just now.
#[derive(Debug)]
pub(crate) enum NotNow {
    /// The next segment is being made.
    Awaited,
    /// The files of identities are others by now.
    AskAgain,
    Refused(JournalError),
}

impl Engine {
    pub(crate) fn new(store: Arc<Store>, settings: Settings, feeds: Vec<Arc<Feed>>, open: Open) -> Self {
        let identities = Identities::new(&store.key);
        let fewest_bytes = AtomicU64::new(store.bytes());
        let known_files = KnownFiles::new(identities, open.known.dedup.files().clone());
        let engine = Self {
            store,
            settings,
            feeds: RwLock::new(feeds.into()),
            duplicates: AtomicU64::new(0),
            known_files,
            open: Mutex::new(open),
            work: Condvar::new(),
            more: Condvar::new(),
            gap: Gap::default(),
            safe: Condvar::new(),
            finished: Mutex::default(),
            finish: Notify::new(),
            told: AtomicU64::new(0),
            turned: Notify::new(),
            keeping: Keeping::default(),
            pause: Keeping::default(),
            unreadable: Mutex::default(),
            overlap: Mutex::default(),
            fewest_bytes,
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        };
        engine.limit_taken();
        engine.checkpoint(&mut engine.open());
        engine
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each sink has to get, in the order of their places. There may be more the next time, never fewer.
    pub(crate) fn feeds(&self) -> Arc<[Arc<Feed>]> {
        Arc::clone(&self.feeds.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps events for this sink from now on: its place.
    pub(crate) fn add(&self, sink: &SinkSettings) -> usize {
        // Under the lock of the group, so that its cursor stands before every event that is for it.
        let mut open = self.open();
        let feeds = self.feeds();
        if let Some(at) = feeds.iter().position(|feed| feed.name == sink.name) {
            feeds[at].allow(sink.max_pending);
            return at;
        }
        let feed = Feed::new(Arc::clone(&sink.name), Cursor::at(open.safe), (0, 0), sink.max_pending);
        let longer = feeds.iter().cloned().chain([Arc::new(feed)]).collect();
        *self.feeds.write().unwrap_or_else(PoisonError::into_inner) = longer;
        self.limit_taken();
        self.note(&mut open, feeds.len(), true, &mut Vec::new());
        self.wake(&open);
        feeds.len()
    }

    pub(crate) fn unreadable(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn overlap(&self) -> MutexGuard<'_, Overlap> {
        self.overlap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event into the group that is written next, for those destinations where it is new.
    pub(crate) fn append(
        &self,
        event: &VerifiedEvent,
        destinations: &[Destination],
        asked: Option<&Asked>,
    ) -> Result<Appended, NotNow> {
        if event.body().len() as u64 > self.settings.largest_record() {
            return Err(NotNow::Refused(JournalError::TooLarge));
        }
        let now = SystemTime::now();
        let mut open = self.open();
        if let Some(error) = &open.closed_for {
            return Err(NotNow::Refused(error.clone()));
        }
        let feeds = self.feeds();
        let mut fresh: SmallVec<[usize; 4]> = (0..destinations.len()).collect();
        if let Some(asked) = asked {
            let (new, known) = open.known.fresh(asked, now).ok_or(NotNow::AskAgain)?;
            if new.is_empty() {
                self.duplicates.fetch_add(1, Ordering::Relaxed);
                return Ok(Appended::Duplicate(
                    known.map_or_else(Commit::done, |known| open.commit_of(known)),
                ));
            }
            fresh = new;
        }
        // Only where it is new: a re-delivery needs no room.
        for feed in fresh.iter().map(|at| &feeds[destinations[*at].sink]) {
            if feed.pending().1.saturating_add(event.size() as u64) > feed.max_pending() {
                return Err(NotNow::Refused(JournalError::SinkFull { sink: Arc::clone(&feed.name) }));
            }
        }
        // A disk that hangs must not let the memory fill up with what nobody waits for any more.
        if open.unwritten() > UNWRITTEN {
            return Err(NotNow::Refused(JournalError::Slow));
        }
        let about = about(&feeds, fresh.iter().map(|at| &destinations[*at]));
        let (sequence, at, bytes) = self.seal(&mut open, EVENT, &about, event)?;
        let to: SmallVec<[_; 2]> = (0..)
            .zip(fresh.iter().map(|at| &destinations[*at]))
            .map(|(number, to)| {
                feeds[to.sink].add(u64::from(bytes));
                (to.sink, number, to.address.clone())
            })
            .collect();
        if let Some(asked) = asked {
            let hashes: SmallVec<[_; 4]> = fresh.iter().map(|at| asked.hashes[*at]).collect();
            open.known.accept(asked.identity, &hashes, sequence, now);
        }
        open.events += 1;
        open.group.events.push(New { sequence, at, bytes, event: event.clone(), to });
        self.wake(&open);
        Ok(Appended::New(Commit::new(&open.group.commit)))
    }

    /// Waits until a record is safe. Not, where the journal ends before.
    pub(crate) fn wait_until_safe(&self, sequence: u64) -> bool {
        let mut open = self.open();
        while open.durable <= sequence {
            if self.has_ended(&open) {
                return false;
            }
            let waited = self.safe.wait_timeout(open, IDLE);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether nothing becomes safe any more.
    pub(crate) fn has_ended(&self, open: &Open) -> bool {
        let failed = matches!(open.closed_for, Some(JournalError::Failed | JournalError::Closed));
        failed || self.ended.load(Ordering::Acquire)
    }

    /// Seals the record of an event where it has room: in this segment, or in the next one.
    pub(crate) fn seal(
        &self,
        open: &mut Open,
        kind: Kind,
        about: &[u8],
        event: &VerifiedEvent,
    ) -> Result<(u64, Location, u32), NotNow> {
        let (largest, most) = (self.settings.segment_size, self.settings.largest_record());
        // The first segments are small: a large event may be for a later one.
        for begun in 0..4 {
            let before = open.mark();
            let limit = open.segment.header.capacity - self.settings.reserve(open.segment.header.capacity);
            let sealed = open.seal(&self.store.key, kind, about, Some(event));
            let sealed = sealed.map_err(|_| NotNow::Refused(JournalError::TooLarge))?;
            let kept = if kind == EVENT { self.kept_here(open) } else { 0 };
            if open.group.end().offset + kept <= limit {
                return Ok(sealed);
            }
            open.back_to(before);
            if kind == EVENT {
                if u64::from(sealed.2) > most {
                    return Err(NotNow::Refused(JournalError::TooLarge));
                }
                // No segment is larger than this one: it is the cursors that leave no room.
                if begun > 0 && open.segment.header.capacity >= largest {
                    break;
                }
                match open.reserved {
                    Reserved::Full => return Err(NotNow::Refused(JournalError::Full)),
                    Reserved::No if open.kept == 0 => {}
                    Reserved::No | Reserved::ForCopies => return Err(NotNow::Awaited),
                }
            }
            self.turn_over(open)?;
        }
        Err(NotNow::Refused(JournalError::Full))
    }

    /// Goes on in the next segment.
    pub(crate) fn turn_over(&self, open: &mut Open) -> Result<(), NotNow> {
        let next = match &open.next {
            Next::Ready(next) => Arc::clone(next),
            Next::Awaited => return Err(NotNow::Awaited),
            Next::Refused(error) => return Err(NotNow::Refused(error.clone())),
        };
        let footer = open.footer();
        // What is read of it ends at what is safe, until all of it is.
        let _ = open.segment.footer.set(footer);
        let sealing = open.known.dedup.seal(open.segment.number, SystemTime::now());
        open.known.sealings.push(sealing);
        self.store.segments().insert(next.number, Arc::clone(&next));
        open.turn_over(next);
        self.checkpoint(open);
        self.keeping.wake();
        Ok(())
    }

    pub(crate) fn wake(&self, open: &Open) {
        if open.idle {
            self.work.notify_one();
        }
    }

    /// Lets the threads end: what is in the group is written first.
    pub(crate) fn close(&self) {
        self.stopping.store(true, Ordering::Release);
        self.work.notify_all();
        self.more.notify_all();
        self.keeping.wake();
        self.pause.wake();
    }
}

impl Keeping {
    pub(crate) fn wake(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ask.notify_all();
    }

    /// Waits until somebody asks, at most so long.
    pub(crate) fn wait(&self, time: Duration) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ask.wait_timeout_while(asked, time, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// What stands beside the record of an event.
fn about<'d>(feeds: &[Arc<Feed>], destinations: impl Iterator<Item = &'d Destination>) -> Vec<u8> {
    let to = destinations.map(|to| To::new(&feeds[to.sink].name, &to.address));
    let mut about = Vec::with_capacity(128);
    format::write(&Accepted { destinations: to.collect() }, &mut about);
    about
}
