//! A running bridge: built from a configuration, served until told to stop.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use hookbus_core::{
    Address, Health, Router, SinkContext, SinkError,
    route::{Target, Unaddressable},
};
use hookbus_journal::Journal;
use thiserror::Error;
use tokio::{sync::watch, time::Instant};

use crate::{
    accept::{Acceptor, Waiting},
    config::{Ack, Config, SinkConfig},
    dead_letter::DeadLetters,
    ingress::{ByteBudget, Ingress, Listener, Source},
    lane::{FromJournal, Groups, Lane, LaneConfig, Running},
};

/// Events a lane holds at most.
const LANE_EVENTS: usize = 8192;
/// Bytes of events a lane holds at most.
const LANE_BYTES: usize = 64 << 20;
/// How long a sink may take to open.
const CONNECT: Duration = Duration::from_secs(30);
/// How long lanes may take for what is in flight, once all requests are answered.
const LANE_GRACE: Duration = Duration::from_secs(5);

/// A bridge that listens.
pub struct Bridge {
    listener: Listener,
    acceptor: Arc<Acceptor>,
    lanes: Vec<Running>,
    address: SocketAddr,
}

/// Why a bridge did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Secrets that cannot be had or used; one line each, showing none of them.
    #[error("{}", .0.join("\n"))]
    Secrets(Vec<String>),
    /// A sink could not be opened.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A route has an address its sink does not take.
    #[error(transparent)]
    Route(#[from] Unaddressable),
    /// The address to listen at is taken or not ours.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// How a bridge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Connections that were cut because they took longer than the grace period.
    pub connections_cut: usize,
}

impl Bridge {
    /// Opens the sinks and binds the listener. Requests are served by [`Bridge::serve`].
    ///
    /// # Errors
    /// [`StartError`]; whatever was opened by then is closed again.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let Config { base, server, dead_letters, sources, sinks, routes } = config;
        let (mut verifiers, mut wrong) = (Vec::new(), Vec::new());
        for source in &sources {
            match source.resolve(&base) {
                Ok(verifier) => verifiers.push(verifier),
                Err(secrets) => wrong.extend(secrets),
            }
        }
        if !wrong.is_empty() {
            return Err(StartError::Secrets(wrong));
        }
        let router = Router::new(sources.iter().map(|source| Arc::clone(&source.name)), &routes)?;
        let groups = sources.iter().map(|source| (Arc::clone(&source.name), source.order));
        let groups = Arc::new(Groups::new(groups));
        let dead_letters = Arc::new(DeadLetters::new(&dead_letters));
        let names: Vec<_> = sinks.iter().map(|sink| Arc::clone(&sink.name)).collect();
        let wants_journal = sources.iter().any(|source| source.ack == Ack::Journal);
        let journal = wants_journal.then(|| Journal::in_memory(&names));
        let (mut lanes, mut running) = (Vec::new(), Vec::new());
        for (at, sink) in sinks.into_iter().enumerate() {
            let mut places: Vec<_> = routes
                .iter()
                .flat_map(|route| &route.to)
                .filter(|target| target.sink == at)
                .filter_map(Target::fixed_place)
                .collect();
            places.sort();
            places.dedup();
            let from_journal = journal.as_ref().map(|journal| FromJournal {
                backlog: journal.backlog(at),
                groups: Arc::clone(&groups),
                dead_letters: Arc::clone(&dead_letters),
            });
            match open(sink, &base, places, from_journal).await {
                Ok((lane, run)) => {
                    lanes.push(lane);
                    running.push(run);
                }
                Err(error) => {
                    stop(running).await;
                    return Err(error.into());
                }
            }
        }
        let acceptor = Arc::new(Acceptor::new(router, lanes, groups, dead_letters, journal));
        let budget = ByteBudget::new(server.limits.in_flight.as_len());
        let waiting = |source: &crate::config::SourceConfig| Waiting {
            ack: source.ack,
            ack_timeout: source.ack_timeout.get(),
        };
        let sources = verifiers.into_iter().zip(&sources);
        let sources =
            sources.map(|(verifier, source)| Source::new(verifier, waiting(source), &budget)).collect();
        let ingress = Ingress::new(sources, Arc::clone(&acceptor), server.limits, server.timeouts);
        let bound = Listener::bind(server.listen, ingress).await;
        let listening = bound.and_then(|listener| listener.address().map(|address| (listener, address)));
        match listening {
            Ok((listener, address)) => Ok(Self { listener, acceptor, lanes: running, address }),
            Err(source) => {
                stop(running).await;
                Err(StartError::Listen { address: server.listen, source })
            }
        }
    }

    /// The address it listens at; with port 0 in the configuration the one the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How each sink is doing, by its name, now and from now on.
    pub fn health(&self) -> Vec<(Arc<str>, watch::Receiver<Health>)> {
        self.acceptor.lanes().iter().map(|lane| (Arc::clone(lane.name()), lane.health())).collect()
    }

    /// Serves requests until `shutdown` is there, then ends in order: requests in progress are answered, within
    /// `timeouts.grace`; then the lanes finish what is in flight and close their sinks.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Summary {
        let Self { listener, lanes, acceptor, .. } = self;
        let stopped = listener.serve(shutdown).await;
        stop(lanes).await;
        drop(acceptor);
        Summary { connections_cut: stopped.cut }
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn open(
    sink: SinkConfig,
    base: &std::path::Path,
    places: Vec<Address>,
    journal: Option<FromJournal>,
) -> Result<(Lane, Running), SinkError> {
    let SinkConfig { name, publish_timeout, prepared, .. } = sink;
    let connecting = prepared.connect(SinkContext::new(&name, base));
    let late =
        || SinkError::new(hookbus_core::ErrorKind::Timeout, "connect", "the sink did not open within 30s");
    let opened = tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(late()));
    let opened = opened.map_err(|error| error.at_sink(&name))?;
    let publish_timeout = publish_timeout.get();
    let config = LaneConfig { max_events: LANE_EVENTS, max_bytes: LANE_BYTES, publish_timeout, places };
    Ok(Lane::start(name, Arc::from(opened), config, journal))
}

/// Stops all lanes side by side, so that a slow one costs the others no time.
async fn stop(lanes: Vec<Running>) {
    let deadline = Instant::now() + LANE_GRACE;
    let stopping: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(lane.stop(deadline))).collect();
    for lane in stopping {
        let _ = lane.await;
    }
}
