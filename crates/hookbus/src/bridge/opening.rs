//! Opening sinks.

use std::{path::Path, sync::Arc, time::Duration};

use hookbus_core::{
    Address, ErrorKind, Sink, SinkContext, SinkError,
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
