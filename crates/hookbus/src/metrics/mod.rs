//! What the bridge counts, and how it is shown to Prometheus.
//!
//! Every source and sink gets a handle at the start: a struct of plain atomics without labels. Counting is a few
//! relaxed additions and never a lock, an allocation or a lookup; names and labels are put to it by the page that a
//! scrape asks for. Whatever somebody else knows already is read at that moment, by a [`Reading`].

mod histogram;
mod journal;
pub(crate) mod names;
mod page;
mod requests;
mod sinks;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use prometheus_client::registry::Registry;

pub(crate) use journal::{JournalFigures, JournalMetrics};
pub(crate) use requests::{Answered, ConnectionMetrics, Handshake, SourceMetrics};
pub(crate) use sinks::{Pending, SinkMetrics};

use crate::admin::Status;

/// All metrics of a bridge.
#[derive(Debug)]
pub(crate) struct Metrics {
    status: Arc<Status>,
    started: SystemTime,
    /// Requests that name no source.
    pub(crate) no_source: Arc<SourceMetrics>,
    /// All there were since the start: what was counted never falls.
    sources: RwLock<Vec<Arc<SourceMetrics>>>,
    sinks: RwLock<Vec<Arc<SinkMetrics>>>,
    pub(crate) connections: Arc<ConnectionMetrics>,
    /// Shown only where there is a journal.
    pub(crate) journal: Arc<JournalMetrics>,
}

impl Metrics {
    /// Zeros for every source and sink of `status`.
    pub(crate) fn new(status: Arc<Status>) -> Arc<Self> {
        let configured = status.configured();
        let metrics = Self {
            sinks: RwLock::default(),
            sources: RwLock::default(),
            no_source: Arc::new(SourceMetrics::new("".into())),
            connections: Arc::default(),
            journal: Arc::default(),
            started: SystemTime::now(),
            status,
        };
        configured.sources.iter().for_each(|known| drop(metrics.source(&known.name)));
        configured.sinks.iter().for_each(|known| drop(metrics.sink(&known.name)));
        Arc::new(metrics)
    }

    /// What is counted of a source, from now on where it is new.
    pub(crate) fn source(&self, name: &str) -> Arc<SourceMetrics> {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.iter().find(|known| &*known.source == name) {
            return Arc::clone(known);
        }
        let new = Arc::new(SourceMetrics::new(name.into()));
        sources.push(Arc::clone(&new));
        new
    }

    /// What is counted of a sink, from now on where it is new.
    pub(crate) fn sink(&self, name: &str) -> Arc<SinkMetrics> {
        let mut sinks = self.sinks.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sinks.iter().find(|known| &*known.sink == name) {
            return Arc::clone(known);
        }
        let new = Arc::new(SinkMetrics::new(name.into()));
        sinks.push(Arc::clone(&new));
        new
    }

    fn sources(&self) -> Vec<Arc<SourceMetrics>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sinks(&self) -> Vec<Arc<SinkMetrics>> {
        self.sinks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The registry of all of them, for the text format.
    pub(crate) fn registry(self: &Arc<Self>) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(self)));
        registry
    }
}

/// Where figures are read from that somebody else keeps, once that is known.
pub(crate) struct Reading<T>(Mutex<Option<Arc<dyn Fn() -> T + Send + Sync>>>);

impl<T> Reading<T> {
    /// Says where to read from now on.
    pub(crate) fn from(&self, read: impl Fn() -> T + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(read));
    }

    /// The figures now; nothing, where nobody has said where to read.
    pub(crate) fn now(&self) -> Option<T> {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        read.map(|read| read())
    }
}

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> fmt::Debug for Reading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        write!(f, "Reading({})", if known { "known" } else { "not known" })
    }
}
