//! Requests that were not accepted: always counted, and kept in detail within a budget, for whoever asks why.
//!
//! A source keeps at most twenty a second, in a ring of files of its own. Nothing here makes a request wait: it is
//! handed to the one thread that writes, and where that does not keep up it is only counted.

mod alarm;
mod figures;
mod frame;
mod masks;
mod pace;
mod reading;
mod record;
mod ring;
mod source;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

pub(crate) use alarm::Standing;
pub(crate) use figures::Figures;
#[cfg(test)]
pub(crate) use figures::NotKept;
pub(crate) use masks::Masks;
pub(crate) use reading::{Chosen, Found, Reading};
pub(crate) use record::{KeptBody, Value};
pub(crate) use source::{Rejections, Request};
pub(crate) use watch::Watch;

use crate::config::{self, Config, SourceConfig};
use ring::Bounds;
use writer::{Plan, Writer};

/// The folder of the record, in the data folder.
const FOLDER: &str = "rejected";

/// The record of a bridge: what is known of each source, and the thread that writes.
pub(crate) struct Rejected {
    sources: RwLock<BTreeMap<Arc<str>, Arc<Rejections>>>,
    known: Mutex<Arc<Known>>,
    writer: Mutex<Option<Writer>>,
}

/// What is needed to look at what is kept: where it is, how long it counts, who may send and with which secrets.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    dir: PathBuf,
    /// The configuration asks for a record.
    wanted: bool,
    settings: config::Rejected,
    pub(crate) base: PathBuf,
    pub(crate) sources: Vec<SourceConfig>,
}

impl Known {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            dir: config.journal.dir.join(FOLDER),
            wanted: config.rejected.is_some(),
            settings: config.rejected.clone().unwrap_or_default(),
            base: config.base.clone(),
            sources: config.sources.clone(),
        }
    }

    /// Reads what is kept.
    pub(crate) fn reading(&self) -> Reading {
        Reading::new(self.dir.clone(), self.settings.retention.get())
    }

    fn bounds(&self) -> Bounds {
        Bounds::new(self.settings.max_size.get(), self.settings.retention.get())
    }
}

impl Rejected {
    /// Counts for the sources of a configuration; nothing is kept before [`keep`](Self::keep).
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let known = Mutex::new(Arc::new(Known::new(config)));
        let this = Self { sources: RwLock::default(), known, writer: Mutex::default() };
        this.configure(config);
        Arc::new(this)
    }

    /// Goes on with another configuration. Sources that stay keep their figures; the files of those that are gone are
    /// removed. The data folder stays where it was.
    pub(crate) fn configure(&self, config: &Config) {
        let known = Arc::new(Known::new(config));
        {
            let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::take(&mut *sources);
            for source in &config.sources {
                let there = before.get(&source.name).cloned();
                let rejections = there.unwrap_or_else(|| Arc::new(Rejections::new(Arc::clone(&source.name))));
                rejections.configure(source, &known.settings);
                sources.insert(Arc::clone(&source.name), rejections);
            }
        }
        *lock(&self.known) = known;
        self.plan();
    }

    /// Keeps requests from now on, in the data folder, which this process has locked. What is there already is looked
    /// at by the thread that writes.
    ///
    /// # Errors
    /// As the system says; then requests are counted and not kept.
    pub(crate) fn keep(&self) -> io::Result<()> {
        let known = self.known();
        {
            let mut writer = lock(&self.writer);
            if writer.is_none() {
                *writer = Some(Writer::start(&known.dir)?);
            }
        }
        self.plan();
        Ok(())
    }

    /// Whether the configuration asks for a record, so that there is to be a data folder.
    pub(crate) fn is_wanted(&self) -> bool {
        self.known().wanted
    }

    /// The record of a source.
    pub(crate) fn source(&self, name: &str) -> Option<Arc<Rejections>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The same; one that is not configured has a record of its own, in which nothing is kept.
    pub(crate) fn of(&self, name: &str) -> Arc<Rejections> {
        self.source(name).unwrap_or_else(|| Arc::new(Rejections::new(name.into())))
    }

    /// The records of all sources, sorted by name.
    pub(crate) fn sources(&self) -> Vec<Arc<Rejections>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What is needed to look at what is kept.
    pub(crate) fn known(&self) -> Arc<Known> {
        Arc::clone(&lock(&self.known))
    }

    /// Writes what waits, for a moment at most, and keeps nothing more.
    pub(crate) async fn stop(&self) {
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer {
            writer.stop().await;
        }
    }

    /// Tells the writer which sources there are, and them who writes.
    fn plan(&self) {
        let Some(queue) = lock(&self.writer).as_ref().map(Writer::queue) else { return };
        let sources = self.sources();
        queue.plan(Plan {
            bounds: self.known().bounds(),
            sources: sources.iter().map(|source| Arc::clone(source.figures())).collect(),
        });
        for source in sources {
            source.keep_by(queue.clone());
        }
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rejected({} sources)", self.sources().len())
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
