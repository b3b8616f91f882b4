//! The journal as its users see it.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use hookbus_core::{Address, RecordKey, VerifiedEvent};

use crate::{
    backlog::{Backlog, Feed},
    commit::{Appended, JournalError},
    dedup,
    engine::{Engine, NotNow},
    figures::{Figures, Observer, State},
    folder::Folder,
    group::{Next, Reserved},
    inspect::{self, InspectError, Report},
    keeper,
    known::Asked,
    recover::{self, Unopenable},
    segment,
    sim::SimFolder,
};

/// How long an event may wait for the next segment to be made.
const TURN: Duration = Duration::from_secs(5);

/// Accepted events, on disk until every sink has them. Cloning shares it; it is closed by [`Journal::close`].
#[derive(Clone, Debug)]
pub struct Journal {
    engine: Arc<Engine>,
    /// Whoever appends does the work of the threads.
    inline: bool,
}

/// How a journal works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a segment; the first ones are smaller, and all are where this is more than an eighth of `max_size`.
    pub segment_size: u64,
    /// Bytes of all segments together.
    pub max_size: u64,
    /// How long delivered events are kept, where there is room.
    pub retention: Duration,
    /// How long events are remembered, so that they are not accepted twice.
    pub dedup: dedup::Settings,
    /// Who hears of every group that is written.
    pub observer: Option<Arc<dyn Observer>>,
}

/// A sink that the journal keeps events for.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// Its name: events that were accepted for it are found by this after a restart.
    pub name: Arc<str>,
    /// Bytes it may have to get at most; events for it are refused then.
    pub max_pending: u64,
}

/// Where an event goes: a sink by its place in the list the journal was opened with, and the address there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The sink's place in the list.
    pub sink: usize,
    /// The rendered and checked address.
    pub address: Address,
}

/// The threads of a journal, to be waited for at the end.
#[derive(Debug)]
pub struct Threads {
    engine: Arc<Engine>,
    threads: Vec<JoinHandle<()>>,
}

/// What one sink has to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The sink.
    pub sink: Arc<str>,
    /// Events.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// When the oldest of them that is known was received, in seconds since 1970.
    pub oldest: Option<u64>,
}

impl Settings {
    /// Bytes of the largest record that a journal of these sizes takes: an event with its headers and its destinations.
    pub fn largest(segment_size: u64, max_size: u64) -> u64 {
        let segment = Self::fitting(segment_size, max_size);
        segment.saturating_sub(reserve(segment) + segment::START)
    }

    /// Bytes of a segment: no more than an eighth of all.
    pub(crate) fn fitting(segment_size: u64, max_size: u64) -> u64 {
        segment_size.min(max_size / 8)
    }

    pub(crate) fn largest_record(&self) -> u64 {
        Self::largest(self.segment_size, self.max_size)
    }

    pub(crate) fn reserve(&self, capacity: u64) -> u64 {
        reserve(capacity)
    }
}

/// Bytes at the end of a segment that only cursors may use.
fn reserve(capacity: u64) -> u64 {
    (capacity / 8).min(1 << 20)
}

impl Journal {
    /// Opens the journal of a folder: what it holds is read back, and a new segment begun. `sinks` come first in the
    /// order of [`Destination::sink`]; behind them stand those that are not in the list and still have events to get
    /// ([`Journal::unknown`]).
    ///
    /// Blocks. [`Journal::tell`] must run for anybody to hear of what is safe.
    ///
    /// # Errors
    /// [`Unopenable`].
    pub fn open(
        folder: Arc<dyn Folder>,
        key: RecordKey,
        settings: Settings,
        sinks: &[SinkSettings],
    ) -> Result<(Self, Threads), Unopenable> {
        let engine = Arc::new(recover::open(folder, key, settings, sinks)?);
        let mut threads = Vec::new();
        for run in [Engine::write, keeper::keep] {
            let shared = Arc::clone(&engine);
            let thread = std::thread::Builder::new().name("journal".into()).spawn(move || run(&shared));
            threads.push(thread.map_err(Unopenable::Io)?);
        }
        Ok((Self { engine: Arc::clone(&engine), inline: false }, Threads { engine, threads }))
    }

    /// A journal on a simulated disk and without threads, so that tests of others need not wait for any.
    #[doc(hidden)]
    pub fn in_memory(sinks: &[Arc<str>]) -> Self {
        const MIB: u64 = 1 << 20;
        let dedup = dedup::Settings { window: Duration::from_secs(3600), max_size: MIB };
        let settings = Settings {
            segment_size: 16 * MIB,
            max_size: 256 * MIB,
            retention: Duration::from_secs(3600),
            dedup,
            observer: None,
        };
        let sink = |name: &Arc<str>| SinkSettings { name: Arc::clone(name), max_pending: 128 * MIB };
        let sinks: Vec<_> = sinks.iter().map(sink).collect();
        let key = RecordKey::new(&[7; 32]).ok();
        let opened = key.map(|key| recover::open(Arc::new(SimFolder::new()), key, settings, &sinks));
        // Invariant: the key has its length, and nothing fails on a disk that nobody told to.
        let Some(Ok(engine)) = opened else { unreachable!("a journal in memory opens") };
        engine.turn();
        Self { engine: Arc::new(engine), inline: true }
    }

    /// Appends an event for these destinations, or those of them where it was not accepted before. It is accepted when the
    /// commit says that it is durable.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn append(
        &self,
        event: &VerifiedEvent,
        destinations: &[Destination],
    ) -> Result<Appended, JournalError> {
        loop {
            let asked = self.ask(event, destinations).await;
            let turned = self.engine.turned.notified();
            match self.engine.append(event, destinations, asked.as_ref()) {
                Ok(appended) => {
                    if self.inline {
                        self.engine.turn();
                    }
                    return Ok(appended);
                }
                Err(NotNow::Refused(error)) => return Err(error),
                Err(NotNow::AskAgain) => {}
                Err(NotNow::Awaited) => {
                    self.engine.keeping.wake();
                    tokio::time::timeout(TURN, turned).await.map_err(|_| JournalError::Full)?;
                }
            }
        }
    }

    /// What is known of an event. Only where a filter says that a file may know it, a thread that may block reads that.
    async fn ask(&self, event: &VerifiedEvent, destinations: &[Destination]) -> Option<Asked> {
        let (mut asked, search) = self.engine.ask(event, destinations, SystemTime::now())?;
        if let Some(search) = search {
            let found = tokio::task::spawn_blocking(move || search.run()).await;
            asked.found =
                found.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).unwrap_or_else(|error| {
                    // In doubt an event is new.
                    tracing::warn!(%error, "cannot read which events were accepted before");
                    None
                });
        }
        Some(asked)
    }

    /// An event ended as a dead letter there: when its provider sends it again, it goes there again.
    pub fn give_up(&self, event: &VerifiedEvent, sink: &str, address: &Address) {
        self.engine.give_up(event, sink, address);
    }

    /// Tells those who wait what became of their events, and hands events to the sinks. Runs until the journal is closed.
    pub async fn tell(&self) {
        self.engine.tell().await;
    }

    /// Keeps events for this sink too from now on, or lets one that it keeps events for have so much to get. Its place, by
    /// which [`Destination::sink`] means it.
    pub fn add(&self, sink: &SinkSettings) -> usize {
        self.engine.add(sink)
    }

    /// What a sink has to get; one lane reads it.
    pub fn backlog(&self, sink: usize) -> Backlog {
        Backlog::new(Arc::clone(&self.engine.feeds()[sink]), Arc::clone(&self.engine))
    }

    /// Sinks that were not in the list it was opened with and have events to get: with their place.
    pub fn unknown(&self) -> Vec<(usize, Pending)> {
        let feeds = self.engine.feeds();
        let unknown = |feed: &Feed| feed.max_pending() == 0;
        let all = self.pending().into_iter().enumerate();
        all.filter(|(at, _)| unknown(&feeds[*at])).collect()
    }

    /// What each sink has to get.
    pub fn pending(&self) -> Vec<Pending> {
        let pending = |feed: &Arc<Feed>| {
            let (events, bytes) = feed.pending();
            Pending { sink: Arc::clone(&feed.name), events, bytes, oldest: feed.cursor().oldest_received() }
        };
        self.engine.feeds().iter().map(pending).collect()
    }

    /// Whether a folder holds a journal.
    pub fn exists(folder: &dyn Folder) -> bool {
        folder.names().is_ok_and(|names| names.iter().any(|name| segment::number(name).is_some()))
    }

    /// How it is now.
    pub fn figures(&self) -> Figures {
        let dedup_window = self.engine.open().known.dedup.window(SystemTime::now());
        Figures {
            disk_bytes: self.engine.bytes(),
            segments: self.engine.store.segments().len() as u64,
            dedup_window,
            duplicates: self.engine.duplicates.load(Ordering::Relaxed),
        }
    }

    /// Whether it takes events now.
    pub fn state(&self) -> State {
        let open = self.engine.open();
        match (&open.closed_for, &open.next) {
            (None, _) if open.reserved == Reserved::Full => State::Full,
            (Some(JournalError::Failed), _) => State::Failed,
            (Some(_), _) | (None, Next::Refused(_)) => State::Full,
            (None, Next::Awaited | Next::Ready(_)) => State::Ready,
        }
    }

    /// Acknowledged events that were found damaged since it was opened, at most.
    pub fn damaged(&self) -> u64 {
        self.engine.store.damaged.load(Ordering::Relaxed)
    }

    /// Notes how far each sink has got and waits until that is safe on disk: what was resolved before is never handed out
    /// again, whatever happens. Blocks.
    ///
    /// # Errors
    /// [`JournalError`]; [`JournalError::Full`] where the notes were not safe within `time`.
    pub fn settle(&self, time: Duration) -> Result<(), JournalError> {
        if self.inline {
            self.engine.turn();
        }
        self.engine.settle(time)
    }

    /// What was counted for a sink of which nothing is left counts no more: its records were damaged. Returns how many
    /// events those were; 0 where something is left ([`Backlog::is_done`]).
    pub fn write_off(&self, sink: usize) -> u64 {
        self.engine.write_off(sink)
    }

    /// Reads everything that is safe, while it goes on, and says what is wrong. Blocks.
    ///
    /// # Errors
    /// As the disk says.
    pub fn check(&self) -> Result<Report, InspectError> {
        inspect::check_running(&self.engine)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Writes what is in the open group and ends the threads. Nothing is accepted any more.
    pub fn close(&self) {
        self.engine.close();
    }
}

impl Threads {
    /// Closes the journal, where it is not, and waits for its threads. Blocks.
    pub fn join(mut self) {
        self.engine.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.engine.close();
    }
}
