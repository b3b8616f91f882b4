//! A running bridge: built from a configuration, served until told to stop.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use hookbus_core::{
    Address, Health, Router, SinkContext, SinkError,
    route::{Target, Unaddressable},
};
use thiserror::Error;
use tokio::{sync::watch, time::Instant};

use crate::{
    accept::{Acceptor, ByLanes, Waiting},
    config::{Config, SinkConfig},
    control::Redrive,
    dead_letters::{LetterBox, Unavailable},
    ingress::{ByteBudget, Ingress, Listener, Source},
    lane::{Lane, LaneConfig, Running},
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
    letters: Arc<LetterBox>,
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
    /// Another process has the data folder.
    #[error("the data folder {} is in use by another process", .0.display())]
    InUse(std::path::PathBuf),
    /// The data folder, or something in it, cannot be used.
    #[error("{0}")]
    Data(String),
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

impl From<Unavailable> for StartError {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Folder(hookbus_journal::OpenError::InUse(path)) => Self::InUse(path),
            other => Self::Data(other.to_string()),
        }
    }
}

impl Bridge {
    /// Opens the sinks and binds the listener. Requests are served by [`Bridge::serve`].
    ///
    /// # Errors
    /// [`StartError`]; whatever was opened by then is closed again.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let letters = Arc::new(LetterBox::new(&config));
        let Config { base, server, sources, sinks, routes, .. } = config;
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
        letters.open_existing().await?;
        let router = Router::new(sources.iter().map(|source| Arc::clone(&source.name)), &routes)?;
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
            match open(sink, &base, places).await {
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
        let acceptor = Arc::new(Acceptor::new(router, lanes, Arc::clone(&letters)));
        let redrive: Arc<dyn Redrive> = Arc::new(ByLanes(Arc::downgrade(&acceptor)));
        letters.take_commands(redrive);
        let budget = ByteBudget::new(server.limits.in_flight.as_len());
        let waiting = |source: &crate::config::SourceConfig| Waiting {
            ack_timeout: source.ack_timeout.get(),
            order: source.order,
        };
        let sources = verifiers.into_iter().zip(&sources);
        let sources =
            sources.map(|(verifier, source)| Source::new(verifier, waiting(source), &budget)).collect();
        let ingress = Ingress::new(sources, Arc::clone(&acceptor), server.limits, server.timeouts);
        let bound = Listener::bind(server.listen, ingress).await;
        let listening = bound.and_then(|listener| listener.address().map(|address| (listener, address)));
        match listening {
            Ok((listener, address)) => Ok(Self { listener, acceptor, letters, lanes: running, address }),
            Err(source) => {
                letters.stop().await;
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
        let Self { listener, lanes, acceptor, letters, .. } = self;
        let stopped = listener.serve(shutdown).await;
        letters.stop().await;
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
) -> Result<(Lane, Running), SinkError> {
    let SinkConfig { name, publish_timeout, prepared, .. } = sink;
    let connecting = prepared.connect(SinkContext::new(&name, base));
    let late =
        || SinkError::new(hookbus_core::ErrorKind::Timeout, "connect", "the sink did not open within 30s");
    let opened = tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(late()));
    let opened = opened.map_err(|error| error.at_sink(&name))?;
    let publish_timeout = publish_timeout.get();
    let config = LaneConfig { max_events: LANE_EVENTS, max_bytes: LANE_BYTES, publish_timeout, places };
    Ok(Lane::start(name, Arc::from(opened), config))
}

/// Stops all lanes side by side, so that a slow one costs the others no time.
async fn stop(lanes: Vec<Running>) {
    let deadline = Instant::now() + LANE_GRACE;
    let stopping: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(lane.stop(deadline))).collect();
    for lane in stopping {
        let _ = lane.await;
    }
}
