//! HTTP in: connections within their limits, requests to verified events, events to answers.

mod answer;
mod body;
mod budget;
mod carried;
mod connection;
mod connections;
mod handler;
mod listener;
mod refusals;
mod socket;
mod watched;

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use hookbus_core::Verifier;
use tokio::sync::watch;

pub(crate) use budget::ByteBudget;
pub(crate) use carried::Carried;
pub(crate) use listener::{Listener, Rebind};
pub(crate) use socket::Socket;

use crate::{
    accept::{Acceptor, Waiting},
    config::{Limits, Timeouts},
    metrics::{Metrics, SourceMetrics},
};
use carried::{OfSource, Requests};

/// What requests that begin now are answered by. Each takes it once, at its start, and ends by it.
pub(crate) type Current = ArcSwap<Ingress>;

/// All a request needs, by one configuration.
pub(crate) struct Ingress {
    sources: HashMap<Arc<str>, Source>,
    acceptor: Arc<Acceptor>,
    limits: Limits,
    timeouts: Timeouts,
    metrics: Arc<Metrics>,
    requests: Arc<Requests>,
    /// Closed once no request needs this any more.
    in_use: watch::Sender<()>,
}

/// One source, ready to take requests.
pub(crate) struct Source {
    verifier: Arc<Verifier>,
    waiting: Waiting,
    carried: OfSource,
    metrics: Arc<SourceMetrics>,
}

impl Source {
    pub(crate) fn new(
        verifier: Arc<Verifier>,
        waiting: Waiting,
        carried: &Carried,
        metrics: Arc<SourceMetrics>,
    ) -> Self {
        let carried = carried.source(verifier.source());
        Self { verifier, waiting, carried, metrics }
    }
}

impl Ingress {
    pub(crate) fn new(
        sources: Vec<Source>,
        acceptor: Arc<Acceptor>,
        limits: Limits,
        timeouts: Timeouts,
        metrics: Arc<Metrics>,
        carried: &Carried,
    ) -> Self {
        let sources = sources.into_iter().map(|source| (source.verifier.source().into(), source)).collect();
        let requests = Arc::clone(&carried.requests);
        Self { sources, acceptor, limits, timeouts, metrics, requests, in_use: watch::Sender::new(()) }
    }

    /// What the requests of a source are verified by.
    pub(crate) fn verifier(&self, source: &str) -> Option<Arc<Verifier>> {
        self.sources.get(source).map(|source| Arc::clone(&source.verifier))
    }

    /// Ends once no request needs this any more.
    pub(crate) fn unused(&self) -> impl Future<Output = ()> + use<> {
        let mut in_use = self.in_use.subscribe();
        async move { while in_use.changed().await.is_ok() {} }
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ingress({} sources)", self.sources.len())
    }
}
