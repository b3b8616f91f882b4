//! HTTP in: connections within their limits, requests to verified events, events to answers.

mod answer;
mod body;
mod budget;
mod connection;
mod connections;
mod handler;
mod listener;
mod refusals;
mod watched;

use std::{collections::HashMap, fmt, sync::Arc};

use hookbus_core::Verifier;
use tokio::sync::Semaphore;

pub(crate) use budget::ByteBudget;
pub(crate) use listener::Listener;

use crate::{
    accept::{Acceptor, Waiting},
    config::{Limits, Timeouts},
    metrics::{Metrics, SourceMetrics},
    rejected::Rejections,
};
use budget::Share;
use refusals::Refusals;

/// All a request needs.
pub(crate) struct Ingress {
    sources: HashMap<Arc<str>, Source>,
    acceptor: Arc<Acceptor>,
    limits: Limits,
    timeouts: Timeouts,
    metrics: Arc<Metrics>,
    requests: Semaphore,
}

/// One source, ready to take requests.
pub(crate) struct Source {
    verifier: Verifier,
    waiting: Waiting,
    share: Arc<Share>,
    refusals: Refusals,
    metrics: Arc<SourceMetrics>,
    rejections: Arc<Rejections>,
}

impl Source {
    pub(crate) fn new(
        verifier: Verifier,
        waiting: Waiting,
        budget: &Arc<ByteBudget>,
        metrics: Arc<SourceMetrics>,
        rejections: Arc<Rejections>,
    ) -> Self {
        let refusals = Refusals::new(verifier.source());
        Self { verifier, waiting, share: budget.share(), refusals, metrics, rejections }
    }
}

impl Ingress {
    pub(crate) fn new(
        sources: Vec<Source>,
        acceptor: Arc<Acceptor>,
        limits: Limits,
        timeouts: Timeouts,
        metrics: Arc<Metrics>,
    ) -> Self {
        let sources = sources.into_iter().map(|source| (source.verifier.source().into(), source)).collect();
        let requests = Semaphore::new(limits.requests.0.min(Semaphore::MAX_PERMITS));
        Self { sources, acceptor, limits, timeouts, metrics, requests }
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ingress({} sources)", self.sources.len())
    }
}
