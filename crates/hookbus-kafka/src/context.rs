//! What the driver calls back: delivery reports, its errors, its log.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use hookbus_core::{ErrorKind, RetryClass, SinkError};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::Message as _,
    producer::{DeliveryResult, ProducerContext},
    types::RDKafkaErrorCode,
};

use crate::{call::Slot, classify::judge};

/// The context of all clients of one sink.
#[derive(Clone)]
pub(crate) struct Context(Arc<Shared>);

struct Shared {
    sink: Arc<str>,
    /// Whether there is something in `trouble`: looked at for every event.
    in_trouble: AtomicBool,
    trouble: Mutex<Trouble>,
}

#[derive(Default)]
struct Trouble {
    /// The driver's last complaint about its connections.
    last: Option<(RDKafkaErrorCode, String)>,
    /// What it has logged since all was well.
    said: HashSet<String>,
}

impl Context {
    pub(crate) fn new(sink: &Arc<str>) -> Self {
        let sink = Arc::clone(sink);
        let (in_trouble, trouble) = (AtomicBool::new(false), Mutex::default());
        Self(Arc::new(Shared { sink, in_trouble, trouble }))
    }

    /// Why nothing was answered, as far as the driver knows: the brokers, the login, or just time.
    pub(crate) fn outage(&self, operation: &'static str) -> SinkError {
        match &self.trouble().last {
            Some((code, reason)) => {
                let (kind, what) = judge(*code);
                // Whatever it is, it concerns all events alike.
                let kind = if kind.retry_class() == RetryClass::Sink { kind } else { ErrorKind::Unavailable };
                SinkError::new(kind, operation, format!("{what}: {reason}"))
            }
            None => SinkError::new(ErrorKind::Timeout, operation, "no answer before the deadline"),
        }
    }

    /// The brokers answered: what the driver says from now on is news again.
    pub(crate) fn all_is_well(&self) {
        if self.0.in_trouble.swap(false, Ordering::AcqRel) {
            *self.trouble() = Trouble::default();
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    /// The driver repeats itself for as long as an outage lasts, twenty times a second. The first line of each kind is
    /// passed on; the lane tells the operator.
    fn log(&self, level: RDKafkaLogLevel, kind: &str, line: &str) {
        let sink = &self.0.sink;
        if matches!(level, RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info) {
            return tracing::trace!(%sink, kind, line, "librdkafka");
        }
        self.0.in_trouble.store(true, Ordering::Release);
        if self.trouble().said.insert(kind.to_owned()) {
            tracing::debug!(%sink, kind, line, "librdkafka");
        } else {
            tracing::trace!(%sink, kind, line, "librdkafka again");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        self.0.in_trouble.store(true, Ordering::Release);
        let mut trouble = self.trouble();
        // That all brokers are down follows from what was said before, and says less.
        if code != RDKafkaErrorCode::AllBrokersDown || trouble.last.is_none() {
            trouble.last = Some((code, reason.to_owned()));
        }
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Slot>;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: Box<Slot>) {
        match result {
            Ok(message) => {
                self.all_is_well();
                slot.land(Ok((message.partition(), message.offset())));
            }
            Err((error, _)) => {
                slot.land(Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)));
            }
        }
    }
}
