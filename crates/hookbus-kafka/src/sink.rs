//! The sink: which producer is used, and when a new one is made.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::{join, join_all};
use hookbus_core::{
    Batch, Capabilities, ErrorKind, Instant, Outcome, Probe, Report, Sink, SinkContext, SinkError,
};
use tokio::time::timeout_at;

use crate::{
    Compression, KafkaConfig,
    context::Context,
    producer::{Generation, SharedGeneration},
    sending::Sending,
    settings::{BATCH_BYTES, Batching},
    topics::{Facts, Topics},
};

/// Topics asked about at once: each keeps a thread.
const ASKED: usize = 8;
/// No topic makes the batches of all smaller than this, in bytes.
const SMALLEST: usize = 4096;
/// How long events go in batches of their own after a batch was refused.
const ALONE: Duration = Duration::from_secs(60);

pub(crate) struct KafkaSink {
    config: KafkaConfig,
    place: SinkContext,
    context: Context,
    pub(crate) topics: Topics,
    state: Mutex<State>,
}

struct State {
    generation: Option<SharedGeneration>,
    /// The largest batch.
    bytes: usize,
    /// Until then each event goes in a batch of its own.
    alone: Option<Instant>,
    closed: bool,
}

impl KafkaSink {
    pub(crate) fn new(config: KafkaConfig, place: SinkContext) -> Self {
        let context = Context::new(&place.name);
        let topics = Topics::new(config.clone(), place.clone(), context.clone());
        let state = Mutex::new(State { generation: None, bytes: BATCH_BYTES, alone: None, closed: false });
        Self { config, place, context, topics, state }
    }

    /// The producer in use; a new one, where the last was given up.
    fn producer(&self) -> Result<SharedGeneration, SinkError> {
        let mut state = self.state();
        if state.closed {
            return Err(SinkError::new(ErrorKind::Closed, "publish", "the sink was closed"));
        }
        state.alone = state.alone.filter(|until| Instant::now() < *until);
        let batching = Batching { bytes: state.bytes, alone: state.alone.is_some() };
        // One whose batches would be other ones is done with what it has; other events go to a new one.
        let fits =
            |generation: &&SharedGeneration| !generation.is_over() && generation.batching() == batching;
        if let Some(generation) = state.generation.as_ref().filter(fits) {
            return Ok(Arc::clone(generation));
        }
        let made = Generation::new(&self.config, &self.place, &self.context, batching)?;
        Ok(Arc::clone(state.generation.insert(Arc::new(made))))
    }

    /// Makes sure that no batch is larger than this.
    fn fit(&self, bytes: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.min(bytes.max(SMALLEST));
    }

    /// For a while each event goes in a batch of its own: a batch was refused, and nothing says which event of it is
    /// to blame.
    pub(crate) fn go_alone(&self, topic: &str, error: &SinkError) {
        let before = self.state().alone.replace(Instant::now() + ALONE);
        if before.is_none() {
            tracing::warn!(
                sink = %self.place.name,
                topic,
                %error,
                "a batch was refused because of an event in it; to find it, each event goes in a batch of its own for a while. \
                 A user who may read the settings of topics (DESCRIBE_CONFIGS) finds most of them beforehand"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns what is not known yet of the topics of a batch; says of their events what stands in the way.
    async fn look_up(
        &self,
        batch: &Batch,
        report: &Report,
        generation: &SharedGeneration,
        deadline: Instant,
    ) {
        let mut topics: Vec<&str> = Vec::new();
        for envelope in batch.iter() {
            let topic = topic(envelope);
            if topics.last() != Some(&topic) && !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        topics.retain(|topic| self.topics.known(topic).is_none());
        let learn = async |topic| (topic, self.topics.learn(topic, generation, deadline).await);
        let mut answers = Vec::with_capacity(topics.len());
        for some in topics.chunks(ASKED) {
            answers.extend(join_all(some.iter().copied().map(learn)).await);
        }
        for (topic, learnt) in answers {
            match learnt {
                Ok(facts) => {
                    if let Some(bytes) = facts.max_bytes {
                        self.fit(bytes);
                    }
                }
                Err(error) => {
                    let missing = Outcome::retry(error);
                    let its = batch.iter().enumerate().filter(|(_, envelope)| self::topic(envelope) == topic);
                    its.for_each(|(at, _)| report.set(at, missing.clone()));
                }
            }
        }
    }
}

impl KafkaSink {
    /// Refuses what its topic is known not to take: a batch is refused with all that is in it, so no such batch may
    /// come about. Returns what is left, in order: what goes together, and what may take its neighbours along and so
    /// goes apart, whole topics each, so that their events stay in order.
    fn sort(&self, batch: &Batch, report: &Report) -> (Vec<usize>, Vec<usize>) {
        let mut topics: HashMap<&str, (Facts, bool)> = HashMap::new();
        let mut left = Vec::with_capacity(batch.len());
        for (at, envelope) in batch.iter().enumerate().filter(|(at, _)| report.get(*at).is_none()) {
            let topic = topic(envelope);
            let known = || (self.topics.known(topic).unwrap_or_default(), self.topics.is_suspect(topic));
            let (facts, apart) = topics.entry(topic).or_insert_with(known);
            match facts.take(envelope) {
                Ok(()) => {}
                // What counts is the size on the wire, which only the driver knows.
                Err(refusal)
                    if refusal.kind() == ErrorKind::TooLarge
                        && self.config.compression != Compression::None =>
                {
                    *apart = true;
                }
                Err(refusal) => {
                    report.set(at, Outcome::rejected(refusal));
                    continue;
                }
            }
            left.push(at);
        }
        let apart = |at: &usize| topics.get(topic(&batch[*at])).is_some_and(|(_, apart)| *apart);
        left.into_iter().partition(|at| !apart(at))
    }

    /// Sends these events through the producer that is used for all.
    async fn send_together(&self, batch: &Batch, report: &Report, events: Vec<usize>, deadline: Instant) {
        // Asked for anew: it is another one where a topic takes smaller batches than the last.
        match self.producer() {
            Ok(generation) => {
                Sending::new(self, &generation, batch, report, events).run(&self.context, deadline).await;
            }
            Err(error) => events.iter().for_each(|at| report.set(*at, Outcome::retry(error.clone()))),
        }
    }

    /// Sends these events in batches of one, through a producer of their own that is not used again.
    async fn send_apart(&self, batch: &Batch, report: &Report, events: Vec<usize>, deadline: Instant) {
        if events.is_empty() {
            return;
        }
        let batching = Batching { bytes: BATCH_BYTES, alone: true };
        match Generation::new(&self.config, &self.place, &self.context, batching) {
            Ok(generation) => {
                let generation = Arc::new(generation);
                Sending::new(self, &generation, batch, report, events.clone())
                    .run(&self.context, deadline)
                    .await;
                let taken = |at: &&usize| matches!(report.get(**at), Some(Outcome::Delivered { .. }));
                events.iter().filter(taken).for_each(|at| self.topics.trust(topic(&batch[*at])));
            }
            Err(error) => events.iter().for_each(|at| report.set(*at, Outcome::retry(error.clone()))),
        }
    }
}

/// Where an event goes.
pub(crate) fn topic(envelope: &hookbus_core::Envelope) -> &str {
    // Invariant: `topic` is required, so every address has it.
    envelope.address.get("topic").unwrap_or_default()
}

#[async_trait]
impl Sink for KafkaSink {
    fn capabilities(&self) -> Capabilities {
        // Several batches, so that the driver always has something to fill its own with.
        Capabilities::new().max_batch(2048).max_batch_bytes(8 << 20).max_in_flight(4).accepts_prefix()
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        let generation = match self.producer() {
            Ok(generation) => generation,
            Err(error) => return report.set_rest(&Outcome::retry(error)),
        };
        if batch.iter().any(|envelope| self.topics.known(topic(envelope)).is_none()) {
            self.look_up(batch, report, &generation, deadline).await;
        }
        let (together, apart) = self.sort(batch, report);
        join(
            self.send_together(batch, report, together, deadline),
            self.send_apart(batch, report, apart, deadline),
        )
        .await;
    }

    async fn probe(&self, target: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        let generation = self.producer()?;
        match target {
            Probe::Sink => self.topics.ask(&generation, None, deadline, |_| ()).await,
            Probe::Address(address) => {
                let topic = address.get("topic").unwrap_or_default();
                self.topics.learn(topic, &generation, deadline).await.map(|_| ())
            }
        }
    }

    async fn close(&self, deadline: Instant) -> Result<(), SinkError> {
        let generation = {
            let mut state = self.state();
            state.closed = true;
            state.generation.take()
        };
        let close = async {
            // No publish is running, so nothing is left in it.
            let end = move || generation.and_then(Arc::into_inner).map(Generation::end);
            let _ = tokio::task::spawn_blocking(end).await;
            self.topics.close().await;
        };
        let late = || SinkError::new(ErrorKind::Timeout, "close", "the driver's threads do not end");
        timeout_at(deadline, close).await.map_err(|_| late())
    }
}

impl fmt::Debug for KafkaSink {
    // Neither the producer nor what it logs in with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaSink({})", self.config.brokers.join(","))
    }
}
