//! `memory`: keeps the newest events in memory, for tests and for embedding.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use hookbus_core::{
    Batch, Capabilities, Envelope, Instant, Outcome, Position, Probe, Report, Sink, SinkContext, SinkError,
    SinkPlugin, registry::Invalid, sink::AddressKey,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::closed::Closed;

/// The plugin of type `memory`.
#[derive(Debug)]
pub struct Memory;

/// Configuration of a `memory` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "memory")]
pub struct MemoryConfig {
    /// How many events are kept; the oldest go first. Default: 1024.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 1))]
    pub keep: usize,
}

fn default_keep() -> usize {
    1024
}

impl SinkPlugin for Memory {
    const TYPE: &'static str = "memory";
    const ADDRESS: &'static [AddressKey] = &[AddressKey::optional("topic")];
    type Config = MemoryConfig;

    fn validate(config: &MemoryConfig) -> Result<(), Invalid> {
        match config.keep {
            0 => Err(Invalid { key: "keep", message: "`keep` is at least 1".into() }),
            _ => Ok(()),
        }
    }

    async fn connect(config: MemoryConfig, _: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(MemorySink::new(config.keep)))
    }
}

/// A sink that keeps the newest events. Clones share what they keep, and each is closed for itself: register one and
/// read the other.
#[derive(Clone, Debug)]
pub struct MemorySink {
    kept: Arc<Mutex<Kept>>,
    closed: Closed,
}

#[derive(Debug)]
struct Kept {
    limit: usize,
    total: u64,
    events: VecDeque<Envelope>,
}

impl MemorySink {
    /// Keeps the newest `limit` events, at least one.
    pub fn new(limit: usize) -> Self {
        let kept = Kept { limit: limit.max(1), total: 0, events: VecDeque::new() };
        Self { kept: Arc::new(Mutex::new(kept)), closed: Closed::default() }
    }

    /// How many events have been published, kept or not.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// The events kept now, oldest first.
    pub fn events(&self) -> Vec<Envelope> {
        self.lock().events.iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().accepts_prefix()
    }

    async fn publish(&self, batch: &Batch, report: &Report, _: Instant) {
        if let Err(closed) = self.closed.check() {
            return report.set_rest(&Outcome::retry(closed));
        }
        let mut kept = self.lock();
        for (at, envelope) in batch.iter().enumerate() {
            while kept.events.len() >= kept.limit {
                kept.events.pop_front();
            }
            kept.events.push_back(envelope.clone());
            kept.total += 1;
            report.set(at, Outcome::delivered(Position::new(kept.total.to_string())));
        }
    }

    async fn probe(&self, _: Probe<'_>, _: Instant) -> Result<(), SinkError> {
        self.closed.check()
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        self.closed.close();
        Ok(())
    }
}
