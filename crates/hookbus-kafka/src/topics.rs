//! What is known of the topics events go to: whether they exist, and what they take.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hookbus_core::{Envelope, ErrorKind, Instant, SinkContext, SinkError};
use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode as Code,
};
use tokio::time::timeout_at;

use crate::{
    KafkaConfig,
    classify::{classify, coded, judge},
    context::Context,
    message::batch_size,
    producer::SharedGeneration,
    settings::{self, BATCH_BYTES, Batching},
};

/// What is known of a topic counts for so long.
const FRESH: Duration = Duration::from_mins(5);
/// The same, where the settings of the topic could not be read.
const SOON: Duration = Duration::from_secs(30);
/// Topics known at once; then all are forgotten, which costs a question each.
const MOST: usize = 4096;
/// How long the settings of a topic are waited for: they are good to know, not needed.
const DESCRIBE: Duration = Duration::from_secs(2);

/// What is known of a topic.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// The largest batch it takes, in bytes, where its settings may be read.
    pub(crate) max_bytes: Option<usize>,
    /// Whether it is compacted: it takes no record without a key then.
    pub(crate) compacted: bool,
}

impl Facts {
    /// Whether the topic would take this event.
    ///
    /// # Errors
    /// Why it would refuse it.
    pub(crate) fn take(self, envelope: &Envelope) -> Result<(), SinkError> {
        if self.compacted && envelope.address.get("key").is_none() {
            let message = "the topic is compacted, and takes no record without a key";
            return Err(SinkError::new(ErrorKind::InvalidEvent, "publish", message));
        }
        // What is beside the body is counted only where it could matter.
        let Some(most) = self.max_bytes.filter(|most| envelope.event.body().len() + 4096 > *most / 2) else {
            return Ok(());
        };
        match batch_size(envelope) {
            size if size > most => {
                let message =
                    format!("{size} bytes are more than the topic takes ({most}, max.message.bytes)");
                Err(SinkError::new(ErrorKind::TooLarge, "publish", message))
            }
            _ => Ok(()),
        }
    }
}

/// The topics of one sink.
pub(crate) struct Topics {
    config: KafkaConfig,
    place: SinkContext,
    context: Context,
    known: Mutex<HashMap<Box<str>, (Facts, Instant)>>,
    warned: Mutex<HashSet<Box<str>>>,
    /// Topics whose events brokers refuse although their metadata are fine: no other may share a producer with them.
    suspects: Mutex<HashSet<Box<str>>>,
    admin: tokio::sync::Mutex<Option<Arc<AdminClient<Context>>>>,
}

impl Topics {
    pub(crate) fn new(config: KafkaConfig, place: SinkContext, context: Context) -> Self {
        let (known, warned, suspects) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { config, place, context, known, warned, suspects, admin: tokio::sync::Mutex::default() }
    }

    /// What is known of a topic already.
    pub(crate) fn known(&self, topic: &str) -> Option<Facts> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(topic).filter(|(_, until)| Instant::now() < *until).map(|(facts, _)| *facts)
    }

    /// Keeps a topic apart from the others from now on.
    pub(crate) fn suspect(&self, topic: &str) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if suspects.len() < MOST {
            suspects.insert(topic.into());
        }
    }

    /// An event for this topic was taken.
    pub(crate) fn trust(&self, topic: &str) {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// Whether a topic is kept apart.
    pub(crate) fn is_suspect(&self, topic: &str) -> bool {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        !suspects.is_empty() && suspects.contains(topic)
    }

    /// Forgets a topic: something it did was not expected.
    pub(crate) fn forget(&self, topic: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// Asks the brokers about a topic.
    pub(crate) async fn learn(
        &self,
        topic: &str,
        generation: &SharedGeneration,
        deadline: Instant,
    ) -> Result<Facts, SinkError> {
        let name = topic.to_owned();
        self.ask(generation, Some(topic), deadline, move |metadata| exists(metadata, &name)).await??;
        let described = self.describe(topic, deadline.min(Instant::now() + DESCRIBE)).await;
        // One that could not be asked, for whatever reason, is asked again soon.
        let (facts, fresh) = described.map_or((Facts::default(), SOON), |facts| (facts, FRESH));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(topic.into(), (facts, Instant::now() + fresh));
        Ok(facts)
    }

    /// Asks the brokers for metadata, on a thread that may wait, and reads the answer there.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        generation: &SharedGeneration,
        topic: Option<&str>,
        deadline: Instant,
        read: impl FnOnce(&Metadata) -> T + Send + 'static,
    ) -> Result<T, SinkError> {
        let (generation, topic) = (Arc::clone(generation), topic.map(str::to_owned));
        let asking = tokio::task::spawn_blocking(move || {
            // Now, and not before: the job may have waited for its thread.
            let left = deadline.saturating_duration_since(Instant::now());
            let client = generation.client().ok_or(KafkaError::Canceled)?;
            client.fetch_metadata(topic.as_deref(), left).map(|metadata| read(&metadata))
        });
        match timeout_at(deadline, asking).await {
            Ok(Ok(Ok(answer))) => {
                self.context.all_is_well();
                Ok(answer)
            }
            // The driver answers that it could not reach anybody; what it complained about before says why.
            Ok(Ok(Err(error))) if is_outage(&error) => Err(self.context.outage("metadata")),
            Ok(Ok(Err(error))) => Err(classify("metadata", error)),
            Ok(Err(_)) => Err(SinkError::new(ErrorKind::Unexpected, "metadata", "the driver panicked")),
            Err(_) => Err(self.context.outage("metadata")),
        }
    }

    /// The settings of a topic that matter here, where the user may read them.
    async fn describe(&self, topic: &str, deadline: Instant) -> Option<Facts> {
        let described = timeout_at(deadline, async {
            let admin = self.admin().await?;
            let left = deadline.saturating_duration_since(Instant::now());
            let options = AdminOptions::new().request_timeout(Some(left));
            let answer = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
            answer.map_err(|error| classify("describe", error))
        });
        let Ok(Ok(answer)) = described.await else {
            // The next one is made with the credentials of then. Its threads are waited for, elsewhere.
            let admin = self.admin.lock().await.take();
            drop(tokio::task::spawn_blocking(move || drop(admin)));
            return None;
        };
        let settings = answer.into_iter().next()?.ok()?;
        let setting =
            |name: &str| settings.get(name).and_then(|entry| entry.value.as_deref()?.parse::<usize>().ok());
        if setting("min.insync.replicas") == Some(1) {
            self.warn_of_one_copy(topic);
        }
        let policy = settings.get("cleanup.policy").and_then(|entry| entry.value.as_deref());
        let compacted = policy.is_some_and(|policy| policy.contains("compact"));
        Some(Facts { max_bytes: setting("max.message.bytes"), compacted })
    }

    fn warn_of_one_copy(&self, topic: &str) {
        if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.into()) {
            tracing::warn!(
                sink = %self.place.name,
                topic,
                "min.insync.replicas is 1: a confirmed event may be on one broker only, and is lost with it"
            );
        }
    }

    async fn admin(&self) -> Result<Arc<AdminClient<Context>>, SinkError> {
        let mut admin = self.admin.lock().await;
        if let Some(admin) = &*admin {
            return Ok(Arc::clone(admin));
        }
        let batching = Batching { bytes: BATCH_BYTES, alone: false };
        let properties = settings::complete(&self.config, &self.place, batching)?;
        let made: AdminClient<_> = properties
            .create_with_context(Context::new(&self.place.name))
            .map_err(|error| classify("connect", error))?;
        Ok(Arc::clone(admin.insert(Arc::new(made))))
    }

    /// Lets go of everything.
    pub(crate) async fn close(&self) {
        let admin = self.admin.lock().await.take();
        // Its threads are waited for.
        let _ = tokio::task::spawn_blocking(move || drop(admin)).await;
    }
}

/// Whether a topic is there, by the brokers' metadata.
fn exists(metadata: &Metadata, topic: &str) -> Result<(), SinkError> {
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(coded("metadata", Code::UnknownTopicOrPartition));
    };
    match found.error().map(Code::from) {
        // Being made, or all its replicas are down: the other topics are not.
        Some(Code::LeaderNotAvailable) => {
            Err(SinkError::new(ErrorKind::Unroutable, "metadata", "the topic has no leader yet"))
        }
        Some(code) => Err(coded("metadata", code)),
        None if found.partitions().is_empty() => Err(coded("metadata", Code::UnknownTopicOrPartition)),
        None => Ok(()),
    }
}

fn is_outage(error: &KafkaError) -> bool {
    let kind = error.rdkafka_error_code().map(|code| judge(code).0);
    matches!(kind, Some(ErrorKind::Unavailable | ErrorKind::Timeout))
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Topics")
    }
}
