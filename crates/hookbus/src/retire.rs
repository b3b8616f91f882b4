//! Taking a sink out of the journal: what it has to get goes to another one, or becomes dead letters.
//!
//! An entry leaves the sink only when it is safe where it goes. So whoever ends this half way loses nothing: the next time
//! goes on, and recognises most of what it had moved already.

use std::{sync::Arc, time::Duration};

use hookbus_core::{Address, SinkRegistry, registry::RegistryError, sink::AddressKey};
use hookbus_journal::{
    Appended, Backlog, DeadLetters, Destination, Entry, Journal, JournalError, Letter, NotKept, Room,
};
use thiserror::Error;
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    StartError,
    config::Config,
    dead_letters::{self, Unavailable},
    journal::Opening,
};

/// Why the dead letters of a retired sink are such.
const REASON: &str = "retired";
/// Entries moved at once: they share fsyncs.
const ROOM: Room = Room { events: 256, bytes: 8 << 20 };
/// How long to wait for entries at once before it is looked at again whether any are left.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a group may take to be safe.
const SAFE: Duration = Duration::from_secs(30);

/// Where the entries of a sink go.
#[derive(Clone, Debug)]
pub(crate) enum Heir {
    /// To another sink, at the same address.
    Sink(String),
    /// They become dead letters.
    DeadLetters,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retired {
    /// Entries that are where they should go.
    pub(crate) moved: u64,
    /// Of these, how many had been accepted there before.
    pub(crate) known: u64,
    /// Events that were counted and cannot be read.
    pub(crate) lost: u64,
}

/// A sink could not be retired, or not to its end.
#[derive(Debug, Error)]
pub(crate) enum NotRetired {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the data folder has no journal")]
    NoJournal,
    #[error("the journal has nothing for a sink `{0}`, and none is configured")]
    NoSink(String),
    #[error("there is no sink `{0}` in the configuration")]
    NoHeir(String),
    #[error("a sink cannot take over from itself")]
    Itself,
    #[error(
        "sink `{sink}` has no address key `{key}`, which an event of the retired one has: use `--dead-letter`"
    )]
    UnknownKey { sink: String, key: String },
    #[error(
        "sink `{sink}` needs the address key `{key}`, which an event of the retired one lacks: use `--dead-letter`"
    )]
    MissingKey { sink: String, key: &'static str },
    #[error("{source}; {moved} events were moved before, and stay so")]
    Stopped { moved: u64, source: Failed },
    #[error("the folder could not be read")]
    Thread,
}

/// Why it could not go on.
#[derive(Debug, Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Letters(#[from] NotKept),
    #[error("cannot read the journal: {0}")]
    Read(#[from] std::io::Error),
    #[error("the journal was not on disk in time")]
    Late,
    #[error(transparent)]
    Address(Box<NotRetired>),
}

/// Retires a sink, where no bridge has the folder.
pub(crate) async fn retire(
    config: &Config,
    registry: &SinkRegistry,
    name: &str,
    heir: Heir,
) -> Result<Retired, NotRetired> {
    let place = |name: &str| config.sinks.iter().position(|sink| &*sink.name == name);
    let to = match heir {
        Heir::Sink(other) if other == name => return Err(NotRetired::Itself),
        Heir::Sink(other) => {
            let at = place(&other).ok_or_else(|| NotRetired::NoHeir(other.clone()))?;
            let keys = registry.get(config.sinks[at].sink_type)?.address();
            Some(At { sink: at, name: other, keys })
        }
        Heir::DeadLetters => None,
    };
    let dir = config.journal.dir.clone();
    if !hookbus_journal::DataFolder::exists(&dir) {
        return Err(NotRetired::NoJournal);
    }
    let settings = dead_letters::settings(config.dead_letters.max_size.get());
    let opened = spawn_blocking(move || dead_letters::open(&dir, settings)).await;
    let (data, letters) = opened.map_err(|_| NotRetired::Thread)??;
    if !Journal::exists(&*data.folder()) {
        return Err(NotRetired::NoJournal);
    }
    let running = Opening::new(config).alone(&data).await?;
    let journal = running.journal.clone();
    dead_letters::tell(letters.clone(), journal.clone()).await;
    let unknown = || journal.unknown().into_iter().find(|(_, pending)| &*pending.sink == name);
    let retired = match place(name).or_else(|| unknown().map(|(at, _)| at)) {
        Some(at) => {
            let moving =
                Moving { journal: &journal, letters: &letters, to, backlog: journal.backlog(at), at };
            moving.run().await
        }
        None => Err(NotRetired::NoSink(name.to_owned())),
    };
    running.stop().await;
    retired
}

/// A sink that takes over.
struct At {
    sink: usize,
    name: String,
    keys: &'static [AddressKey],
}

struct Moving<'a> {
    journal: &'a Journal,
    letters: &'a DeadLetters,
    to: Option<At>,
    backlog: Backlog,
    at: usize,
}

impl Moving<'_> {
    async fn run(mut self) -> Result<Retired, NotRetired> {
        let mut retired = Retired::default();
        let moved = self.all(&mut retired).await;
        match moved {
            Ok(()) => Ok(retired),
            Err(Failed::Address(wrong)) if retired.moved == 0 => Err(*wrong),
            Err(source) => Err(NotRetired::Stopped { moved: retired.moved, source }),
        }
    }

    async fn all(&mut self, retired: &mut Retired) -> Result<(), Failed> {
        while !self.backlog.is_done() {
            let entries = self.backlog.take(ROOM).await?;
            if entries.is_empty() && !self.backlog.is_done() {
                // The journal is copying some of them on: they are there again in a moment.
                let _ = timeout(AGAIN, self.backlog.ready()).await;
                continue;
            }
            retired.known += match &self.to {
                Some(to) => self.append(to, &entries).await?,
                None => self.keep(&entries).await?,
            };
            self.backlog.resolve_all(entries.iter().map(|entry| entry.id));
            retired.moved += entries.len() as u64;
        }
        retired.lost = self.journal.write_off(self.at);
        let journal = self.journal.clone();
        spawn_blocking(move || journal.settle(SAFE)).await.map_err(|_| Failed::Late)??;
        Ok(())
    }

    /// Appends entries for the other sink and waits until they are safe. How many it had accepted before.
    async fn append(&self, to: &At, entries: &[Entry]) -> Result<u64, Failed> {
        for entry in entries {
            suits(to, &entry.address).map_err(|wrong| Failed::Address(Box::new(wrong)))?;
        }
        let (mut known, mut commits) = (0, Vec::with_capacity(entries.len()));
        for Entry { event, address, .. } in entries {
            let destination = Destination { sink: to.sink, address: address.clone() };
            match self.journal.append(event, &[destination]).await? {
                Appended::New(commit) => commits.push(commit),
                Appended::Duplicate(commit) => {
                    known += 1;
                    commits.push(commit);
                }
            }
        }
        for commit in commits {
            timeout(SAFE, commit.durable()).await.map_err(|_| Failed::Late)??;
        }
        Ok(known)
    }

    /// Keeps entries as dead letters.
    async fn keep(&self, entries: &[Entry]) -> Result<u64, Failed> {
        let sink: &Arc<str> = self.backlog.sink();
        let kept = entries.iter().map(|entry| {
            let letter = Letter::new(entry.event.clone(), Arc::clone(sink), REASON, "its sink was retired");
            let letter = Letter { address: Some(entry.address.clone()), entry: Some(entry.id), ..letter };
            let letters = self.letters.clone();
            tokio::spawn(async move { letters.keep(letter).await })
        });
        let kept: Vec<_> = kept.collect();
        for kept in kept {
            kept.await.map_err(|_| Failed::Late)??;
        }
        Ok(0)
    }
}

/// Whether an address has the keys of a sink's type.
fn suits(to: &At, address: &Address) -> Result<(), NotRetired> {
    let known = |name: &str| to.keys.iter().any(|key| key.name() == name);
    if let Some((key, _)) = address.iter().find(|(name, _)| !known(name)) {
        return Err(NotRetired::UnknownKey { sink: to.name.clone(), key: key.to_owned() });
    }
    match to.keys.iter().find(|key| key.is_required() && address.get(key.name()).is_none()) {
        Some(key) => Err(NotRetired::MissingKey { sink: to.name.clone(), key: key.name() }),
        None => Ok(()),
    }
}
