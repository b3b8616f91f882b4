//! Opening sinks, and what stands in for one that could not be opened.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use hookbus_core::{
    Address, Batch, Capabilities, ErrorKind, Instant, Outcome, Probe, Report, Sink, SinkContext, SinkError,
    registry::Prepared,
    route::{Route, Target},
};

/// How long a sink may take to open.
const CONNECT: Duration = Duration::from_secs(30);

/// Opens a sink.
pub(super) async fn open(
    name: &Arc<str>,
    base: &Path,
    prepared: Prepared,
) -> Result<Arc<dyn Sink>, SinkError> {
    let connecting = prepared.connect(SinkContext::new(name, base));
    let late = || SinkError::new(ErrorKind::Timeout, "connect", "the sink did not open within 30s");
    let opened = tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(late()));
    opened.map(Arc::from).map_err(|error| error.at_sink(name))
}

/// The places that routes always name at a sink.
pub(super) fn places(routes: &[Route], sink: usize) -> Vec<Address> {
    let targets = routes.iter().flat_map(|route| &route.to).filter(|target| target.sink == sink);
    let mut places: Vec<_> = targets.filter_map(Target::fixed_place).collect();
    places.sort();
    places.dedup();
    places
}

/// A sink that could not be opened again once the one before it was closed. It takes nothing, so everything waits.
#[derive(Debug)]
pub(super) struct Unopened(pub(super) SinkError);

#[async_trait]
impl Sink for Unopened {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
    }

    async fn publish(&self, _: &Batch, report: &Report, _: Instant) {
        let error = SinkError::new(ErrorKind::Unavailable, "publish", "the sink is not open");
        report.set_rest(&Outcome::retry(error.with_source(self.0.clone())));
    }

    async fn probe(&self, _: Probe<'_>, _: Instant) -> Result<(), SinkError> {
        let error = SinkError::new(ErrorKind::Unavailable, "probe", "the sink is not open");
        Err(error.with_source(self.0.clone()))
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        Ok(())
    }
}
