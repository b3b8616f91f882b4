//! HTTP in: connections within their limits, requests to verified events, events to answers.

mod answer;
mod body;
mod budget;
pub(crate) mod client;
mod connection;
mod connections;
mod handler;
mod handshake;
mod http2;
mod listener;
mod rates;
mod refusals;
mod seldom;
mod stream;
pub(crate) mod tls;
mod watched;
mod work;

use std::{collections::HashMap, fmt, sync::Arc, time::Instant};

use hookbus_core::Verifier;
use tokio::sync::Semaphore;

pub(crate) use budget::ByteBudget;
pub(crate) use listener::Listener;

use crate::{
    accept::{Acceptor, Waiting},
    config::{Limits, Timeouts},
    metrics::{Metrics, SourceMetrics},
};
use budget::Share;
use client::Proxies;
use handshake::Handshakes;
use rates::{Addresses, Pace, Taken};
use refusals::Refusals;
use tls::Tls;

/// All a request needs.
pub(crate) struct Ingress {
    sources: HashMap<Arc<str>, Source>,
    acceptor: Arc<Acceptor>,
    limits: Limits,
    timeouts: Timeouts,
    metrics: Arc<Metrics>,
    requests: Semaphore,
    proxies: Arc<Proxies>,
    /// How fast an address may send in vain.
    pace: Pace,
    addresses: Arc<Addresses>,
    /// Nothing where it takes HTTP in clear.
    tls: Option<Arc<Tls>>,
}

/// One source, ready to take requests.
pub(crate) struct Source {
    verifier: Verifier,
    waiting: Waiting,
    share: Arc<Share>,
    refusals: Refusals,
    handshakes: Handshakes,
    metrics: Arc<SourceMetrics>,
    /// How fast it may send, where that is limited.
    pace: Option<Pace>,
    taken: Arc<Taken>,
}

impl Source {
    pub(crate) fn new(
        verifier: Verifier,
        waiting: Waiting,
        budget: &Arc<ByteBudget>,
        metrics: Arc<SourceMetrics>,
    ) -> Self {
        let refusals = Refusals::new(verifier.source());
        let handshakes = Handshakes::new(verifier.source());
        let taken = Arc::new(Taken::new(Instant::now()));
        Self { verifier, waiting, share: budget.share(), refusals, handshakes, metrics, pace: None, taken }
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
        let (pace, proxies) = (Pace::new(&limits.refused_per_address), Arc::default());
        let addresses = Arc::new(Addresses::new(Instant::now()));
        Self { sources, acceptor, limits, timeouts, metrics, requests, proxies, pace, addresses, tls: None }
    }

    /// Believes these proxies, and nobody else, about who the client is.
    pub(crate) fn behind(self, proxies: Proxies) -> Self {
        Self { proxies: Arc::new(proxies), ..self }
    }

    /// Takes HTTPS only, where there is a certificate.
    pub(crate) fn with_tls(self, tls: Option<Tls>) -> Self {
        if let Some(tls) = &tls {
            let keys = Arc::clone(tls.keys());
            self.metrics.connections.certificate.from(move || keys.validity().until);
        }
        Self { tls: tls.map(Arc::new), ..self }
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ingress({} sources)", self.sources.len())
    }
}
