//! HTTP in: connections within their limits, requests to verified events, events to answers.

mod answer;
mod arriving;
mod body;
mod budget;
mod carried;
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
mod socket;
mod stream;
pub(crate) mod tls;
mod watched;
mod work;

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
    config::{Limits, Respond, Timeouts},
    metrics::{Metrics, SourceMetrics},
    rejected::{Masks, Rejections},
};
use arriving::Arriving;
use carried::{OfSource, Requests};
use client::Proxies;
use handshake::Handshakes;
use rates::{Addresses, Pace};
use tls::Tls;

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
    arriving: Arc<Arriving>,
    proxies: Arc<Proxies>,
    /// How fast an address may send in vain.
    pace: Pace,
    addresses: Arc<Addresses>,
    /// Nothing where it takes HTTP in clear.
    tls: Option<Arc<Tls>>,
    /// Closed once no request needs this any more.
    in_use: watch::Sender<()>,
}

/// One source, ready to take requests.
pub(crate) struct Source {
    verifier: Arc<Verifier>,
    waiting: Waiting,
    carried: OfSource,
    handshakes: Handshakes,
    metrics: Arc<SourceMetrics>,
    respond: Option<Respond>,
    rejections: Arc<Rejections>,
    masks: Masks,
    /// How fast it may send, where that is limited.
    pace: Option<Pace>,
}

impl Source {
    pub(crate) fn new(
        verifier: Arc<Verifier>,
        waiting: Waiting,
        carried: &Carried,
        metrics: Arc<SourceMetrics>,
        rejections: Arc<Rejections>,
    ) -> Self {
        let carried = carried.source(verifier.source());
        let handshakes = Handshakes::new(verifier.source());
        let (pace, respond, masks) = (None, None, Masks::new(verifier.scheme()));
        Self { verifier, waiting, carried, handshakes, metrics, respond, rejections, masks, pace }
    }

    /// With this answer to what was taken over.
    pub(crate) fn responding(self, respond: Option<Respond>) -> Self {
        Self { respond, ..self }
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
        let (pace, proxies) = (Pace::new(&limits.refused_per_address), Arc::default());
        let (requests, addresses) = (Arc::clone(&carried.requests), Arc::clone(&carried.addresses));
        let arriving = Arc::clone(&carried.arriving);
        let (tls, in_use) = (None, watch::Sender::new(()));
        Self {
            sources,
            acceptor,
            limits,
            timeouts,
            metrics,
            requests,
            arriving,
            proxies,
            pace,
            addresses,
            tls,
            in_use,
        }
    }

    /// Believes these proxies, and nobody else, about who the client is.
    pub(crate) fn behind(self, proxies: Proxies) -> Self {
        Self { proxies: Arc::new(proxies), ..self }
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

    /// Takes HTTPS only, where there is a certificate.
    pub(crate) fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// The TLS it speaks.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ingress({} sources)", self.sources.len())
    }
}
