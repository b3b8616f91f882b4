//! What a sink is: the contract between those who write one and the lanes that feed it.

mod address;
mod batch;
mod capabilities;
mod function;
mod outcome;
mod report;

use std::fmt;

use async_trait::async_trait;

pub use address::{Address, AddressKey};
pub use batch::{Batch, Envelope};
pub use capabilities::Capabilities;
pub use function::{FunctionSink, sink_fn};
pub use outcome::{Outcome, Position};
pub use report::Report;

use crate::{Instant, SinkError};

/// Publishes batches of verified events to one destination system.
///
/// A lane feeds each sink. It promises: batches are never empty and stay within [`Capabilities`]; at most
/// `max_in_flight` calls of [`publish`](Self::publish) run at once; an event of a group (address, source, subject)
/// is not handed over while an earlier one of its group is unresolved, unless the sink declares that it accepts a
/// prefix; only the lane retries. `async_trait`, because the sink is chosen by configuration and so always `dyn`;
/// its cost of one allocation is paid once a batch.
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// What this sink can take; read once, when its lane starts.
    fn capabilities(&self) -> Capabilities;

    /// Publishes a batch and fills the report: one outcome per event, by its place in the batch, as the
    /// confirmations arrive.
    ///
    /// `Delivered` means that the destination took responsibility for the event. A slot left open counts as "retry,
    /// maybe delivered". The call returns by `deadline`; a lane drops it soon after, which must not poison the sink,
    /// and what the report held by then stands.
    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant);

    /// Whether the destination, or one address of it, would take an event now. Sends no event. Lanes call it to
    /// find out when a pause is over, so it should travel the way a publish does.
    ///
    /// # Errors
    /// What stands in the way.
    async fn probe(&self, target: Probe<'_>, deadline: Instant) -> Result<(), SinkError>;

    /// Lets go of connections and files. Called once no publish is running; may be called again. What is published
    /// afterwards is not delivered, with the kind [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// # Errors
    /// What could not be closed in order; the sink counts as closed all the same.
    async fn close(&self, deadline: Instant) -> Result<(), SinkError>;
}

/// What a probe asks about.
#[derive(Clone, Copy, Debug)]
pub enum Probe<'a> {
    /// The destination system as a whole.
    Sink,
    /// One address that was refused before, by its metadata.
    Address(&'a Address),
}

/// A sink that several configured sinks share.
#[derive(Debug)]
pub(crate) struct SharedSink(pub(crate) std::sync::Arc<dyn Sink>);

#[async_trait]
impl Sink for SharedSink {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        self.0.publish(batch, report, deadline).await;
    }

    async fn probe(&self, target: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        self.0.probe(target, deadline).await
    }

    async fn close(&self, deadline: Instant) -> Result<(), SinkError> {
        self.0.close(deadline).await
    }
}
