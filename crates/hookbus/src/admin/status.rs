//! Whether the bridge can do its work, and what stands in the way.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use hookbus_core::{EventTime, Health, HealthState};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Reloads;
use crate::{
    dead_letters::LettersState,
    metrics::Reading,
    rejected::{Rejected, Rejections},
};

/// What readiness is told from. Parts of the bridge fill in what they know.
#[derive(Debug)]
pub(crate) struct Status {
    configured: ArcSwap<Configured>,
    /// What became of reloads.
    pub(crate) reloads: Reloads,
    /// Nothing where there is no journal, or it is not open yet.
    journal: OnceLock<watch::Receiver<JournalState>>,
    letters: OnceLock<watch::Receiver<LettersState>>,
    /// The certificate of the main listener; nothing without TLS.
    pub(crate) certificate: Reading<Option<Certificate>>,
    rejected: OnceLock<Arc<Rejected>>,
    listening: AtomicBool,
    stopping: AtomicBool,
}

/// A certificate that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// When the one in use expires.
    pub(crate) until: SystemTime,
    /// Why what is in the files now is not used, and since when; nothing where it is.
    pub(crate) refused: Option<(SystemTime, String)>,
}

/// What there is now, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Configured {
    pub(crate) sources: Vec<SourceStatus>,
    pub(crate) sinks: Vec<SinkStatus>,
}

/// A source as it was configured.
#[derive(Debug)]
pub(crate) struct SourceStatus {
    pub(crate) name: Arc<str>,
    /// It has no secret, so its events are answered 503.
    pub(crate) awaits_secret: bool,
}

/// A sink and how it is doing.
#[derive(Debug)]
pub(crate) struct SinkStatus {
    pub(crate) name: Arc<str>,
    /// Whether the bridge counts as ready only while this sink is not down.
    pub(crate) required: bool,
    configured: Health,
    lane: OnceLock<watch::Receiver<Health>>,
}

/// Whether a journal takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JournalState {
    /// It does.
    Ready,
    /// It does not, until there is room again.
    Full,
    /// It does not any more: something broke for good.
    Failed,
}

impl JournalState {
    pub(crate) const ALL: [Self; 3] = [Self::Ready, Self::Full, Self::Failed];

    /// The state in one lower-case word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }
}

impl SinkStatus {
    pub(crate) fn new(name: Arc<str>, required: bool) -> Self {
        Self { name, required, configured: Health::starting(), lane: OnceLock::new() }
    }

    /// Its lane is there, and tells from now on.
    pub(crate) fn follow(&self, health: watch::Receiver<Health>) {
        let _ = self.lane.set(health);
    }

    /// How it is doing.
    pub(crate) fn health(&self) -> Health {
        self.lane.get().map_or_else(|| self.configured.clone(), |lane| lane.borrow().clone())
    }

    fn is_in_the_way(&self) -> bool {
        self.required && self.health().state == HealthState::Down
    }

    fn json(&self) -> Value {
        let Health { state, since, error } = self.health();
        let mut shown = json!({
            "name": *self.name,
            "required": self.required,
            "state": state.as_str(),
            "since": EventTime::from(since).to_string(),
        });
        // The kind alone: what drivers say of an error is for the log.
        if let Some(error) = error {
            shown["error"] = error.kind().as_str().into();
        }
        shown
    }
}

impl Status {
    /// A bridge that has not started yet.
    pub(crate) fn new(sources: Vec<SourceStatus>, sinks: Vec<SinkStatus>) -> Self {
        let (journal, letters, certificate, rejected) = Default::default();
        let (listening, stopping, reloads) = Default::default();
        let configured = ArcSwap::from_pointee(Configured { sources, sinks });
        Self { configured, reloads, journal, letters, certificate, rejected, listening, stopping }
    }

    /// What there is now.
    pub(crate) fn configured(&self) -> Arc<Configured> {
        self.configured.load_full()
    }

    /// There is something else from now on.
    pub(crate) fn configure(&self, configured: Configured) {
        self.configured.store(Arc::new(configured));
    }

    /// Where the journal says how it is doing; the first word stands.
    pub(crate) fn follow_journal(&self, state: watch::Receiver<JournalState>) {
        let _ = self.journal.set(state);
    }

    /// Where it is said whether dead letters can be kept; the first word stands.
    pub(crate) fn follow_letters(&self, state: watch::Receiver<LettersState>) {
        let _ = self.letters.set(state);
    }

    /// Where is noted what was not accepted; the first word stands.
    pub(crate) fn follow_rejected(&self, rejected: &Arc<Rejected>) {
        let _ = self.rejected.set(Arc::clone(rejected));
    }

    /// What was not accepted of a source.
    pub(crate) fn rejections(&self, source: &str) -> Option<Arc<Rejections>> {
        self.rejected.get()?.source(source)
    }

    /// The journal's state, where there is one.
    pub(crate) fn journal(&self) -> Option<JournalState> {
        self.journal.get().map(|state| *state.borrow())
    }

    /// The main listener is bound.
    pub(crate) fn listening(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// The bridge was asked to stop.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the process does its work at all, or only a restart can help.
    pub(crate) fn is_alive(&self) -> bool {
        self.journal() != Some(JournalState::Failed)
    }

    /// Whether events should be sent here now.
    pub(crate) fn is_ready(&self) -> bool {
        self.word() == "ready"
    }

    /// All of it in one word.
    fn word(&self) -> &'static str {
        if self.stopping.load(Ordering::Acquire) {
            "stopping"
        } else if !self.listening.load(Ordering::Acquire) {
            "starting"
        } else if self.journal().is_none_or(|state| state == JournalState::Ready)
            && !self.configured.load().sinks.iter().any(SinkStatus::is_in_the_way)
        {
            "ready"
        } else {
            "not-ready"
        }
    }

    /// Everything that readiness depends on, for people and programs; and whether it is given.
    pub(super) fn readiness(&self) -> (bool, Value) {
        let word = self.word();
        let source = |source: &SourceStatus| {
            let standing = || self.rejections(&source.name).map(|it| it.standing()).unwrap_or_default();
            let state = if source.awaits_secret { "awaiting-secret" } else { standing().as_str() };
            json!({ "name": *source.name, "state": state })
        };
        let configured = self.configured();
        let time = |time| EventTime::from(time).to_string();
        let certificate = |Certificate { until, refused }| {
            let refused = refused.map(|(at, why)| json!({ "at": time(at), "why": why }));
            json!({ "expires": time(until), "refused": refused })
        };
        let shown = json!({
            "status": word,
            "configuration": self.reloads.json(),
            "certificate": self.certificate.now().flatten().map(certificate),
            "journal": self.journal().map(|state| json!({ "state": state.as_str() })),
            "dead-letters": self.letters.get().map(|state| json!({ "state": state.borrow().as_str() })),
            "sinks": configured.sinks.iter().map(SinkStatus::json).collect::<Vec<_>>(),
            "sources": configured.sources.iter().map(source).collect::<Vec<_>>(),
        });
        (word == "ready", shown)
    }
}
