//! A journal that runs, with sinks that take what is theirs.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part of it")]

use std::{sync::Arc, time::Duration};

use hookbus_core::{Address, RecordKey, VerifiedEvent};
use hookbus_journal::{
    Appended, Backlog, Destination, Entry, Folder, Journal, JournalError, Room, Settings, SinkSettings,
    Threads, Unopenable, dedup,
};
use hookbus_testkit::TestEvent;

/// Long enough for whatever must happen.
pub const SOON: Duration = Duration::from_secs(20);
pub const MIB: u64 = 1 << 20;

/// A journal that runs.
pub struct Rig {
    pub journal: Journal,
    threads: Option<Threads>,
    telling: tokio::task::JoinHandle<()>,
}

pub fn key() -> RecordKey {
    RecordKey::new(&[7; 32]).unwrap()
}

pub fn settings() -> Settings {
    Settings {
        segment_size: MIB,
        max_size: 64 * MIB,
        retention: Duration::from_secs(3600),
        dedup: dedup::Settings { window: Duration::from_secs(3600), max_size: 16 * MIB },
        observer: None,
    }
}

pub fn sinks(names: &[&str]) -> Vec<SinkSettings> {
    names.iter().map(|name| SinkSettings { name: (*name).into(), max_pending: 32 * MIB }).collect()
}

impl Rig {
    pub fn open(folder: Arc<dyn Folder>, names: &[&str]) -> Self {
        Self::open_with(folder, settings(), &sinks(names)).unwrap()
    }

    pub fn open_with(
        folder: Arc<dyn Folder>,
        settings: Settings,
        sinks: &[SinkSettings],
    ) -> Result<Self, Unopenable> {
        Self::with_key(folder, key(), settings, sinks)
    }

    pub fn with_key(
        folder: Arc<dyn Folder>,
        key: RecordKey,
        settings: Settings,
        sinks: &[SinkSettings],
    ) -> Result<Self, Unopenable> {
        let (journal, threads) = Journal::open(folder, key, settings, sinks)?;
        let tells = journal.clone();
        let telling = tokio::spawn(async move { tells.tell().await });
        Ok(Self { journal, threads: Some(threads), telling })
    }

    /// Accepts an event for the sinks at these places, and waits until it is safe.
    pub async fn accept(&self, event: &VerifiedEvent, to: &[usize]) -> Result<(), JournalError> {
        self.append(event, to).await.map(|duplicate| assert!(!duplicate))
    }

    /// The same, and whether it was accepted before.
    pub async fn append(&self, event: &VerifiedEvent, to: &[usize]) -> Result<bool, JournalError> {
        let (commit, duplicate) = match self.journal.append(event, &destinations(to)).await? {
            Appended::New(commit) => (commit, false),
            Appended::Duplicate(commit) => (commit, true),
        };
        tokio::time::timeout(SOON, commit.durable()).await.expect("an answer")?;
        Ok(duplicate)
    }

    /// Ends it in order.
    pub async fn close(mut self) {
        let threads = self.threads.take().unwrap();
        tokio::task::spawn_blocking(move || threads.join()).await.unwrap();
        tokio::time::timeout(SOON, self.telling).await.expect("it ends").unwrap();
    }
}

pub fn destinations(to: &[usize]) -> Vec<Destination> {
    to.iter().map(|sink| Destination { sink: *sink, address: address() }).collect()
}

pub fn address() -> Address {
    Address::from_parts([("topic", "media"), ("key", "a")], 1)
}

/// An event with this id and a body of so many bytes.
pub fn event(id: &str, bytes: usize) -> VerifiedEvent {
    TestEvent::new("fastpix").id(id).subject(format!("s-{id}")).length(bytes).build()
}

/// Takes exactly so many entries.
pub async fn take(backlog: &mut Backlog, count: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    while entries.len() < count {
        tokio::time::timeout(SOON, backlog.ready()).await.expect("more entries");
        let room = Room { events: count - entries.len(), bytes: usize::MAX };
        entries.extend(backlog.take(room).await.unwrap());
    }
    entries
}

/// Takes all that is there now.
pub async fn drain(backlog: &mut Backlog) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut empty = 0;
    // What was read at a place without entries says nothing about the next place.
    while empty < 3 {
        let taken = backlog.take(Room { events: 1000, bytes: usize::MAX }).await.unwrap();
        empty = if taken.is_empty() { empty + 1 } else { 0 };
        entries.extend(taken);
    }
    entries
}

pub fn ids(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.event.id().as_str().to_owned()).collect()
}
