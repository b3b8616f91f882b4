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
    sync::{Arc, OnceLock},
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
    /// In the order of the configuration.
    pub(crate) sources: Vec<Arc<SourceMetrics>>,
    /// In the order of the configuration.
    pub(crate) sinks: Vec<Arc<SinkMetrics>>,
    pub(crate) connections: Arc<ConnectionMetrics>,
    /// Shown only where there is a journal.
    pub(crate) journal: Arc<JournalMetrics>,
}

impl Metrics {
    /// Zeros for every source and sink of `status`.
    pub(crate) fn new(status: Arc<Status>) -> Arc<Self> {
        let source = |name: &Arc<str>| Arc::new(SourceMetrics::new(Arc::clone(name)));
        let sources = status.sources.iter().map(|known| source(&known.name)).collect();
        let sinks = status.sinks.iter().map(|known| Arc::new(SinkMetrics::new(Arc::clone(&known.name))));
        Arc::new(Self {
            sinks: sinks.collect(),
            sources,
            no_source: source(&"".into()),
            connections: Arc::default(),
            journal: Arc::default(),
            started: SystemTime::now(),
            status,
        })
    }

    /// The registry of all of them, for the text format.
    pub(crate) fn registry(self: &Arc<Self>) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(self)));
        registry
    }
}

/// Where figures are read from that somebody else keeps, once that is known.
pub(crate) struct Reading<T>(OnceLock<Box<dyn Fn() -> T + Send + Sync>>);

impl<T> Reading<T> {
    /// Says where to read; the first word stands.
    pub(crate) fn from(&self, read: impl Fn() -> T + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(read));
    }

    /// The figures now; nothing, where nobody has said where to read.
    fn now(&self) -> Option<T> {
        self.0.get().map(|read| read())
    }
}

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> fmt::Debug for Reading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reading({})", if self.0.get().is_some() { "known" } else { "not known" })
    }
}
