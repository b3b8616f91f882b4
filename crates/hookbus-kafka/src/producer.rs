//! A producer, from its making to its first trouble.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use hookbus_core::{Envelope, SinkContext, SinkError};
use rdkafka::{
    client::Client,
    error::KafkaError,
    producer::{Producer as _, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::{
    KafkaConfig,
    call::{Room, Slot},
    classify::{classify, for_bystanders},
    context::Context,
    message::record,
    settings::{self, Batching},
};

/// One idempotent producer. It is given up as a whole at the first event that is not delivered: the driver would go
/// on with later events of the same partition, and so out of order. The next one begins with what is unresolved.
pub(crate) struct Generation {
    // None once it is being dropped.
    producer: Option<ThreadedProducer<Context>>,
    batching: Batching,
    /// Why it was given up, if it was. Held for reading while an event is handed over: none must slip in behind the
    /// purge.
    over: RwLock<Option<SinkError>>,
    room: Arc<Room>,
}

impl Generation {
    pub(crate) fn new(
        config: &KafkaConfig,
        place: &SinkContext,
        context: &Context,
        batching: Batching,
    ) -> Result<Self, SinkError> {
        let properties = settings::complete(config, place, batching)?;
        let producer = properties.create_with_context(context.clone());
        let producer: ThreadedProducer<_> = producer.map_err(|error| classify("connect", error))?;
        tracing::debug!(sink = %place.name, ?batching, "producer made");
        let room = Room::in_queue(settings::queue(config));
        Ok(Self { producer: Some(producer), batching, over: RwLock::default(), room })
    }

    /// Hands an event to the driver, which copies it.
    ///
    /// # Errors
    /// Why it did not take it.
    pub(crate) fn send(
        &self,
        envelope: &Envelope,
        topic: &str,
        slot: Box<Slot>,
    ) -> Result<(), RDKafkaErrorCode> {
        let over = self.over.read().unwrap_or_else(PoisonError::into_inner);
        let Some(producer) = self.producer.as_ref().filter(|_| over.is_none()) else {
            return Err(RDKafkaErrorCode::PurgeQueue);
        };
        match producer.send(record(envelope, topic, slot)) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(code), _)) => Err(code),
            Err(_) => Err(RDKafkaErrorCode::Unknown),
        }
    }

    /// The end of it: whatever it still holds is reported back at once. Nobody knows of those events whether they
    /// arrive: what waits in the queue may have been sent before and be there for another try.
    pub(crate) fn give_up(&self, reason: &SinkError) {
        let mut over = self.over.write().unwrap_or_else(PoisonError::into_inner);
        if over.is_some() {
            return;
        }
        *over = Some(for_bystanders(reason));
        if let Some(producer) = &self.producer {
            producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
        }
    }

    /// Whether it was given up.
    pub(crate) fn is_over(&self) -> bool {
        self.reason().is_some()
    }

    /// Why it was given up, for those who are not to blame.
    pub(crate) fn reason(&self) -> Option<SinkError> {
        self.over.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the driver itself has given up: it then reports back all it has, and takes nothing more.
    pub(crate) fn is_fatal(&self) -> bool {
        self.client().is_some_and(|client| client.fatal_error().is_some())
    }

    /// Ends it here, on a thread that may wait for the driver's.
    pub(crate) fn end(mut self) {
        drop(self.producer.take());
    }

    /// The room in its queue.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    pub(crate) fn batching(&self) -> Batching {
        self.batching
    }

    /// Its client, for questions to the brokers.
    pub(crate) fn client(&self) -> Option<&Client<Context>> {
        self.producer.as_ref().map(|producer| producer.client())
    }
}

impl Drop for Generation {
    // The driver's threads are waited for: not on a thread of the runtime.
    fn drop(&mut self) {
        let Some(producer) = self.producer.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(producer))),
            Err(_) => drop(producer),
        }
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({:?})", self.batching)
    }
}

/// Shares a generation with a blocking thread.
pub(crate) type SharedGeneration = Arc<Generation>;
