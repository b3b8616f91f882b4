//! What a running bridge consists of, beside its listener.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    path::Path,
    sync::Arc,
};

use arc_swap::ArcSwap;
use hookbus_core::Verifier;
use tokio::time::Instant;

use crate::{
    accept::{Acceptor, Waiting},
    admin::{Admin, Configured, JournalState, SinkStatus, SourceStatus, Status},
    config::{self, Config, Order, Outline, Server, SourceConfig},
    control::Today,
    dead_letters::LetterBox,
    ingress::{Carried, Current, Ingress, Rebind, Source, client::Proxies, tls::Tls},
    journal::RunningJournal,
    lane::Groups,
    metrics::Metrics,
    rejected::Rejected,
};

use super::{
    LANE_GRACE,
    places::{Definition, Placed, stop},
};

/// All of it.
pub(super) struct Parts {
    pub(super) letters: Arc<LetterBox>,
    pub(super) journal: Option<RunningJournal>,
    pub(super) rejected: Arc<Rejected>,
    /// By their places.
    pub(super) sinks: Vec<Placed>,
    pub(super) groups: Arc<Groups>,
    pub(super) carried: Carried,
    pub(super) metrics: Arc<Metrics>,
    pub(super) status: Arc<Status>,
    pub(super) today: Arc<ArcSwap<Today>>,
    pub(super) acceptor: Arc<ArcSwap<Acceptor>>,
    pub(super) current: Arc<Current>,
    pub(super) rebind: Rebind,
    pub(super) admin: Option<Admin>,
    pub(super) standing: Standing,
}

/// What is in force: a new configuration is compared with it.
pub(super) struct Standing {
    pub(super) outline: Outline,
    pub(super) server: Server,
    /// Which sockets were passed to this process.
    pub(super) inherited: Inherited,
    pub(super) admin: Option<config::Admin>,
    pub(super) journal: config::Journal,
    pub(super) dead_letters: config::DeadLetters,
    pub(super) orders: HashMap<Arc<str>, Order>,
    pub(super) secrets: Marks,
}

/// Which listeners have sockets that were passed to this process: those stay, whatever address is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inherited {
    pub(super) server: bool,
    pub(super) admin: bool,
}

/// By this it is seen that a secret has changed. Nothing of a secret can be told from it.
#[derive(Default)]
pub(super) struct Marks {
    hasher: RandomState,
    sources: HashMap<Arc<str>, u64>,
}

impl Marks {
    /// Marks the secrets these sources have now; the names of those whose secrets are others than before.
    pub(super) fn mark(&mut self, sources: &[SourceConfig], base: &Path) -> Vec<Arc<str>> {
        let mark = |source: &SourceConfig| {
            let secrets = source.secrets.iter().chain(&source.verify_token);
            let secrets = secrets.map(|secret| secret.resolve(base).ok());
            let secrets: Vec<_> =
                secrets.map(|secret| secret.map(|secret| secret.expose().to_vec())).collect();
            (Arc::clone(&source.name), self.hasher.hash_one(secrets))
        };
        let new: HashMap<_, _> = sources.iter().map(mark).collect();
        let other = |name: &&Arc<str>| self.sources.get(*name).is_some_and(|old| *old != new[*name]);
        let changed = sources.iter().map(|source| &source.name).filter(other).cloned().collect();
        self.sources = new;
        changed
    }
}

/// What a source keeps its order by.
pub(super) fn orders(sources: &[SourceConfig]) -> HashMap<Arc<str>, Order> {
    sources.iter().map(|source| (Arc::clone(&source.name), source.order)).collect()
}

/// What requests are answered by: made of a configuration and of what outlives it.
pub(super) struct Answering<'a> {
    pub(super) sources: &'a [SourceConfig],
    pub(super) verifiers: Vec<Arc<Verifier>>,
    pub(super) server: &'a Server,
    pub(super) acceptor: Arc<Acceptor>,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) rejected: &'a Rejected,
    pub(super) carried: &'a Carried,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Answering<'_> {
    pub(super) fn ingress(self) -> Ingress {
        let Self { sources, verifiers, server, acceptor, metrics, rejected, carried, tls } = self;
        let (limits, timeouts) = (server.limits.clone(), server.timeouts.clone());
        let source = |(source, verifier): (&SourceConfig, Arc<Verifier>)| {
            let waiting = Waiting { ack: source.ack, ack_timeout: source.ack_timeout.get() };
            let (metrics, rejections) = (metrics.source(&source.name), rejected.of(&source.name));
            Source::new(verifier, waiting, carried, metrics, rejections)
                .responding(source.respond.clone())
                .limited_to(source.rate_limit.as_ref())
        };
        let sources = sources.iter().zip(verifiers).map(source).collect();
        Ingress::new(sources, acceptor, limits, timeouts, Arc::clone(metrics), carried)
            .behind(Proxies::new(server))
            .with_tls(tls)
    }
}

/// What readiness is told from.
pub(super) fn configured<'d>(
    sources: &[SourceConfig],
    sinks: impl IntoIterator<Item = &'d Definition>,
) -> Configured {
    let source = |source: &SourceConfig| SourceStatus {
        name: Arc::clone(&source.name),
        awaits_secret: source.secrets.is_empty(),
    };
    let sink = |sink: &Definition| SinkStatus::new(Arc::clone(&sink.name), sink.share.required);
    Configured { sources: sources.iter().map(source).collect(), sinks: sinks.into_iter().map(sink).collect() }
}

impl Standing {
    /// What a configuration leaves behind that is in force.
    pub(super) fn of(config: &Config, inherited: Inherited, secrets: Marks) -> Self {
        Self {
            outline: config.outline.clone(),
            server: config.server.clone(),
            inherited,
            admin: config.admin.clone(),
            journal: config.journal.clone(),
            dead_letters: config.dead_letters.clone(),
            orders: orders(&config.sources),
            secrets,
        }
    }
}

impl Parts {
    /// Ends it all: no command is taken any more, lanes finish what is in flight, the journal notes what they delivered, and
    /// the admin listener goes last. Whether the journal had failed.
    pub(super) async fn stop(self) -> bool {
        let Self { letters, journal, rejected, sinks, admin, .. } = self;
        letters.stop().await;
        rejected.stop().await;
        let failed =
            journal.as_ref().is_some_and(|journal| *journal.state().borrow() == JournalState::Failed);
        stop(sinks, Instant::now() + LANE_GRACE).await;
        if let Some(journal) = journal {
            journal.stop().await;
        }
        if let Some(admin) = admin {
            admin.stop().await;
        }
        failed
    }
}
