//! The simplest sink: a function called once per event.

use std::{fmt, future::Future};

use async_trait::async_trait;

use super::{Batch, Capabilities, Envelope, Outcome, Probe, Report, Sink};
use crate::{Instant, SinkError};

/// A sink out of an async function, called once per event, one after the other. `Ok` means delivered; an error whose
/// kind no try can help rejects the event, any other makes it wait for the next try.
///
/// ```
/// use hookbus_core::{Envelope, sink_fn};
///
/// let sink = sink_fn(|envelope: Envelope| async move {
///     println!("{} {}", envelope.event.event_type(), envelope.event.id());
///     Ok(())
/// });
/// ```
pub fn sink_fn<F, A>(function: F) -> FunctionSink<F>
where
    F: Fn(Envelope) -> A + Send + Sync + 'static,
    A: Future<Output = Result<(), SinkError>> + Send,
{
    FunctionSink { function }
}

/// The sink that [`sink_fn`] makes.
pub struct FunctionSink<F> {
    function: F,
}

#[async_trait]
impl<F, A> Sink for FunctionSink<F>
where
    F: Fn(Envelope) -> A + Send + Sync + 'static,
    A: Future<Output = Result<(), SinkError>> + Send,
{
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().max_in_flight(8)
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        for (at, envelope) in batch.iter().enumerate() {
            // What is cut here stays an open slot: the function may have done its work.
            let Ok(result) = tokio::time::timeout_at(deadline, (self.function)(envelope.clone())).await
            else {
                return;
            };
            report.set(
                at,
                match result {
                    Ok(()) => Outcome::delivered(None),
                    Err(error) if error.retry_class() == crate::RetryClass::Never => Outcome::rejected(error),
                    Err(error) => Outcome::retry(error),
                },
            );
        }
    }

    async fn probe(&self, _: Probe<'_>, _: Instant) -> Result<(), SinkError> {
        Ok(())
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        Ok(())
    }
}

impl<F> fmt::Debug for FunctionSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FunctionSink")
    }
}
