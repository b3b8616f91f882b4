//! What stands in a lane where no sink is open: nothing is taken, so everything waits.

use async_trait::async_trait;
use hookbus_core::{Batch, Capabilities, ErrorKind, Instant, Outcome, Probe, Report, Sink, SinkError};

/// The sink before was closed, and there is no other one; with what stood in the way, where something did.
#[derive(Debug)]
pub(crate) struct NotOpen(pub(crate) Option<SinkError>);

impl NotOpen {
    fn error(&self, operation: &'static str) -> SinkError {
        let error = SinkError::new(ErrorKind::Unavailable, operation, "the sink is not open");
        match &self.0 {
            Some(why) => error.with_source(why.clone()),
            None => error,
        }
    }
}

#[async_trait]
impl Sink for NotOpen {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
    }

    async fn publish(&self, _: &Batch, report: &Report, _: Instant) {
        report.set_rest(&Outcome::retry(self.error("publish")));
    }

    async fn probe(&self, _: Probe<'_>, _: Instant) -> Result<(), SinkError> {
        Err(self.error("probe"))
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        Ok(())
    }
}
