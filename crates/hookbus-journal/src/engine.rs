//! Appending: records are put into a group under one lock; a thread writes groups and fsyncs them.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
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
    cursor::{Ahead, NOTE_AFTER},
    dedup::Identities,
    format::{self, Accepted, CHECKPOINT, CURSOR, Checkpoint, EVENT, Location, To},
    gap::Gap,
    group::{Group, New, Next, Open},
    journal::{Destination, Settings},
    keeper,
    known::{Asked, KnownFiles},
    segment::{START, Segment},
    store::Store,
};

/// A cursor that has changed is noted after so long.
const NOTE_WITHIN: Duration = Duration::from_millis(20);
/// Bytes of records that may wait for the disk.
const UNWRITTEN: usize = 64 << 20;
/// How long the writer waits for work before it looks for cursors to note.
const IDLE: Duration = Duration::from_millis(250);
/// How long to wait before a write that failed is tried again.
const WRITE_AGAIN: Duration = Duration::from_millis(200);

/// What the threads of a journal share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) settings: Settings,
    pub(crate) feeds: Box<[Arc<Feed>]>,
    /// Events that were known since it was opened.
    pub(crate) duplicates: AtomicU64,
    pub(crate) known_files: KnownFiles,
    open: Mutex<Open>,
    work: Condvar,
    /// Cuts the writer's gap short.
    more: Condvar,
    gap: Gap,
    /// More is safe on disk.
    pub(crate) safe: Condvar,
    /// Groups whose fate is known and was not told yet, in order.
    finished: Mutex<Vec<Finished>>,
    finish: Notify,
    /// Another segment can be appended to.
    pub(crate) turned: Notify,
    pub(crate) keeping: Keeping,
    /// Cuts the writer's waits short.
    pause: Keeping,
    pub(crate) stopping: AtomicBool,
    /// The writer has ended.
    ended: AtomicBool,
}

/// By this a thread is woken.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    asked: Mutex<bool>,
    ask: Condvar,
}

#[derive(Debug)]
struct Finished {
    group: Group,
    result: Result<(), JournalError>,
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
        let known_files = KnownFiles::new(identities, open.known.dedup.files().clone());
        let engine = Self {
            store,
            settings,
            feeds: feeds.into(),
            duplicates: AtomicU64::new(0),
            known_files,
            open: Mutex::new(open),
            work: Condvar::new(),
            more: Condvar::new(),
            gap: Gap::default(),
            safe: Condvar::new(),
            finished: Mutex::default(),
            finish: Notify::new(),
            turned: Notify::new(),
            keeping: Keeping::default(),
            pause: Keeping::default(),
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        };
        engine.checkpoint(&mut engine.open());
        engine
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event into the group that is written next, for those destinations where it is new.
    pub(crate) fn append(
        &self,
        event: &VerifiedEvent,
        destinations: &[Destination],
        asked: Option<&Asked>,
    ) -> Result<Appended, NotNow> {
        let now = SystemTime::now();
        let mut open = self.open();
        if let Some(error) = &open.closed_for {
            return Err(NotNow::Refused(error.clone()));
        }
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
        for feed in fresh.iter().map(|at| &self.feeds[destinations[*at].sink]) {
            if feed.pending().1.saturating_add(event.size() as u64) > feed.max_pending {
                return Err(NotNow::Refused(JournalError::SinkFull { sink: Arc::clone(&feed.name) }));
            }
        }
        // A disk that hangs must not let the memory fill up with what nobody waits for any more.
        if open.unwritten() > UNWRITTEN {
            return Err(NotNow::Refused(JournalError::Slow));
        }
        let about = about(&self.feeds, fresh.iter().map(|at| &destinations[*at]));
        let (sequence, at, bytes) = self.seal(&mut open, EVENT, &about, event)?;
        let to: SmallVec<[_; 2]> = (0..)
            .zip(fresh.iter().map(|at| &destinations[*at]))
            .map(|(number, to)| {
                self.feeds[to.sink].add(u64::from(bytes));
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

    /// Appends a copy of an event; nothing where there is no room for it now.
    pub(crate) fn append_copy(
        &self,
        kind: Kind,
        about: &[u8],
        event: &VerifiedEvent,
    ) -> Option<(u64, Location, u32)> {
        let mut open = self.open();
        if open.closed_for.is_some() {
            return None;
        }
        let sealed = self.seal(&mut open, kind, about, event).ok()?;
        self.wake(&open);
        Some(sealed)
    }

    /// Waits until a record is safe. Not, where the journal ends before.
    pub(crate) fn wait_until_safe(&self, sequence: u64) -> bool {
        let mut open = self.open();
        while open.durable <= sequence {
            if self.stopping.load(Ordering::Acquire)
                || matches!(open.closed_for, Some(JournalError::Failed | JournalError::Closed))
            {
                return false;
            }
            let waited = self.safe.wait_timeout(open, IDLE);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Seals the record of an event where it has room: in this segment, or in the next one.
    fn seal(
        &self,
        open: &mut Open,
        kind: Kind,
        about: &[u8],
        event: &VerifiedEvent,
    ) -> Result<(u64, Location, u32), NotNow> {
        let largest = self.settings.segment_size;
        let most = largest.saturating_sub(self.settings.reserve(largest) + START);
        for begun in [false, true] {
            let before = open.mark();
            let limit = open.segment.header.capacity - self.settings.reserve(open.segment.header.capacity);
            let sealed = open.seal(&self.store.key, kind, about, Some(event));
            let sealed = sealed.map_err(|_| NotNow::Refused(JournalError::TooLarge))?;
            if open.group.end().offset <= limit {
                return Ok(sealed);
            }
            open.back_to(before);
            if u64::from(sealed.2) > most {
                return Err(NotNow::Refused(JournalError::TooLarge));
            }
            // No segment is larger than this one: it is the cursors that leave no room.
            if begun && open.segment.header.capacity >= largest {
                break;
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

    /// Begins a segment with all cursors, so that nothing before it need be read to know them.
    fn checkpoint(&self, open: &mut Open) {
        let mut content = Vec::new();
        let cursors = u32::try_from(self.feeds.len()).unwrap_or(u32::MAX);
        format::write(&Checkpoint { cursors }, &mut content);
        // Invariant: a checkpoint is far smaller than the smallest segment. Where it is not, the one before counts.
        let _ = open.seal(&self.store.key, CHECKPOINT, &content, None);
        for at in 0..self.feeds.len() {
            self.note(open, at, true, &mut content);
        }
        open.notes_at = Instant::now();
    }

    /// Notes a cursor.
    pub(crate) fn note(&self, open: &mut Open, at: usize, full: bool, content: &mut Vec<u8>) {
        let feed = &self.feeds[at];
        let mut cursor = feed.cursor();
        // Where what has changed has no room, the whole may have: of what is resolved it says nothing.
        for full in [full, true] {
            let note = cursor.note(&feed.name, feed.pending(), full);
            format::write(&note, content);
            let (needed, before) = (cursor.oldest(), open.mark());
            let sealed = open.seal(&self.store.key, CURSOR, content, None);
            // Behind the end of a segment nobody would look for it.
            if sealed.is_ok() && open.group.end().offset <= open.segment.header.capacity {
                open.group.cursors.push((at, needed));
                return;
            }
            open.back_to(before);
            cursor.note_all();
        }
    }

    /// Notes the cursors that have changed, where it is time. How long until it is time for the others.
    fn note_changes(&self, open: &mut Open, now: Instant) -> Duration {
        let last = self.stopping.load(Ordering::Acquire);
        let due = last || now.saturating_duration_since(open.notes_at) >= NOTE_WITHIN;
        let (mut content, mut wait) = (Vec::new(), IDLE);
        for (at, feed) in self.feeds.iter().enumerate() {
            let changes = feed.cursor().changes();
            if changes == 0 {
                continue;
            }
            if !due && changes < NOTE_AFTER {
                wait = NOTE_WITHIN;
                continue;
            }
            // A cursor is small, but for the one of a sink with much that is stuck.
            let reserve = self.settings.reserve(open.segment.header.capacity);
            if open.room() < (reserve / 2).min(64 << 10) && self.turn_over(open).is_ok() {
                return IDLE;
            }
            // What is left is kept for the notes that let a segment go: without them the journal would stay full.
            if !last
                && open.room() < reserve / 2
                && feed.cursor().oldest() <= feed.needed.load(Ordering::Acquire)
            {
                continue;
            }
            self.note(open, at, false, &mut content);
        }
        if due {
            open.notes_at = now;
        }
        wait
    }

    pub(crate) fn wake(&self, open: &Open) {
        if open.idle {
            self.work.notify_one();
        }
    }

    /// The thread that writes. Groups are written in their order, and each is safe before the next one is begun: so only
    /// the last group of a journal can be torn.
    pub(crate) fn write(&self) {
        while let Some(group) = self.next_group() {
            if !self.write_group(group) {
                break;
            }
        }
        self.end();
    }

    /// Writes one group. Whether the journal can go on.
    fn write_group(&self, group: Group) -> bool {
        // Invariant: a segment is in the store before a group for it is, and as long as it is not safe.
        let Some(segment) = self.store.segment(group.at.segment) else { return false };
        let result = self.write_until_done(&segment, &group).and_then(|()| self.sync(&segment, &group));
        let failed = result.is_err();
        {
            let mut open = self.open();
            open.unsafe_yet.pop_front();
            if !failed {
                open.durable = open.durable.max(group.until);
                open.safe = open.safe.max(group.end());
                for (at, needed) in &group.cursors {
                    self.feeds[*at].needed.store(*needed, Ordering::Release);
                }
            }
        }
        self.safe.notify_all();
        self.finish(Finished { group, result });
        !failed
    }

    /// Does at once what the threads do in time, for journals without any.
    pub(crate) fn turn(&self) {
        loop {
            let group = {
                let mut open = self.open();
                self.note_changes(&mut open, Instant::now());
                open.take()
            };
            let Some(group) = group else { break };
            self.write_group(group);
        }
        keeper::look(self);
        self.tell_finished();
    }

    /// Waits for a group.
    fn next_group(&self) -> Option<Group> {
        let mut open = self.open();
        loop {
            let wait = match open.closed.is_empty() {
                true => self.note_changes(&mut open, Instant::now()),
                false => IDLE,
            };
            if let Some(gap) = self.gap.next(&open.group) {
                open = self.more.wait_timeout(open, gap).unwrap_or_else(PoisonError::into_inner).0;
            }
            if let Some(group) = open.take() {
                self.gap.taken(&group);
                return Some(group);
            }
            if self.stopping.load(Ordering::Acquire) {
                return None;
            }
            open.idle = true;
            let waited = self.work.wait_timeout(open, wait);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
            open.idle = false;
        }
    }

    /// Writes a group, again and again until the disk takes it: whatever was not answered by then is answered when it is
    /// there. Nothing new is accepted meanwhile.
    fn write_until_done(&self, segment: &Segment, group: &Group) -> Result<(), JournalError> {
        let mut refused = false;
        while let Err(error) = segment.file.write_at(&group.buffer, group.at.offset) {
            if !std::mem::replace(&mut refused, true) {
                tracing::error!(%error, "cannot write the journal; nothing is accepted until it can be written again");
            }
            let error = JournalError::Disk(Arc::new(error));
            self.open().closed_for = Some(error.clone());
            if self.stopping.load(Ordering::Acquire) {
                return Err(error);
            }
            self.pause.wait(WRITE_AGAIN);
        }
        if refused {
            tracing::info!("the journal can be written again");
            self.open().closed_for = None;
        }
        Ok(())
    }

    fn sync(&self, segment: &Segment, group: &Group) -> Result<(), JournalError> {
        let begun = Instant::now();
        segment.file.sync().map_err(|error| self.fail(&error))?;
        self.gap.synced(begun.elapsed());
        if let Some(observer) = &self.settings.observer {
            observer.group(group.events.len() as u64, group.buffer.len() as u64, begun.elapsed());
        }
        Ok(())
    }

    /// An fsync failed. The kernel may have dropped what it could not write and say yes the next time, so nothing that
    /// comes from this file can be trusted to be on disk.
    fn fail(&self, error: &io::Error) -> JournalError {
        tracing::error!(%error, "an fsync of the journal failed; nothing is accepted until a restart");
        self.open().closed_for = Some(JournalError::Failed);
        JournalError::Failed
    }

    /// Tells all that still wait that nothing more comes.
    fn end(&self) {
        let (groups, error) = {
            let mut open = self.open();
            let error = open.closed_for.get_or_insert(JournalError::Closed).clone();
            let mut groups = Vec::new();
            while let Some(group) = open.take() {
                groups.push(group);
            }
            // The next start need not read a segment that was sealed, and misses what is then missing of it.
            let all_safe = groups.is_empty() && open.durable == open.next_sequence;
            let sealed = all_safe.then(|| open.segment.seal(&self.store.key, open.footer()));
            if let Some(Err(error)) = sealed {
                tracing::warn!(segment = open.segment.number, %error, "cannot write the footer of a segment");
            }
            (groups, error)
        };
        for group in groups {
            self.finish(Finished { group, result: Err(error.clone()) });
        }
        self.ended.store(true, Ordering::Release);
        self.finish.notify_one();
    }

    fn finish(&self, finished: Finished) {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(finished);
        self.finish.notify_one();
    }

    /// Tells of groups whose fate is known, on the runtime: whoever waits there is woken without another thread. Ends when
    /// the journal is closed.
    pub(crate) async fn tell(&self) {
        loop {
            let more = self.finish.notified();
            // Looked at before what is finished: whatever the writer finished before it ended is seen then.
            let last = self.ended.load(Ordering::Acquire);
            self.tell_finished();
            if last {
                return;
            }
            more.await;
        }
    }

    fn tell_finished(&self) {
        let finished = std::mem::take(&mut *self.finished.lock().unwrap_or_else(PoisonError::into_inner));
        for Finished { group, result } in finished {
            group.commit.tell(result.clone());
            self.distribute(group, result.is_ok());
        }
    }

    /// Hands the events of a group to the sinks they are for.
    fn distribute(&self, group: Group, safe: bool) {
        let head = group.end();
        for (at, feed) in self.feeds.iter().enumerate() {
            let mine = |new: &'_ New| new.to.iter().any(|(sink, ..)| *sink == at);
            if !safe {
                for new in group.events.iter().filter(|new| mine(new)) {
                    feed.subtract(u64::from(new.bytes));
                }
                continue;
            }
            let entries = group.events.iter().flat_map(|new| {
                let mine = new.to.iter().filter(move |(sink, ..)| *sink == at);
                mine.map(move |(_, number, address)| {
                    let id = crate::EntryId { sequence: new.sequence, destination: *number };
                    Ahead::new(id, new.event.clone(), address.clone(), new.at, new.bytes)
                })
            });
            let anything = {
                let mut cursor = feed.cursor();
                match group.events.is_empty() {
                    true => {
                        cursor.set_head(head);
                        false
                    }
                    false => cursor.committed(entries, head),
                }
            };
            if anything {
                feed.more.notify_one();
            }
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

    /// Notes the cursors that need a segment no more while the disk still says so, and waits until that is safe, at most
    /// so long.
    pub(crate) fn note_past(&self, segment: u64, time: Duration) {
        let lags = |feed: &&Arc<Feed>| feed.needed.load(Ordering::Acquire) <= segment;
        let until = Instant::now() + time;
        for feed in self.feeds.iter().filter(lags) {
            feed.cursor().note_all();
        }
        let mut open = self.open();
        self.wake(&open);
        while self.feeds.iter().any(|feed| lags(&feed)) && !self.stopping.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            let ended = matches!(open.closed_for, Some(JournalError::Failed | JournalError::Closed));
            if left.is_zero() || ended {
                return;
            }
            open = self.safe.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
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
