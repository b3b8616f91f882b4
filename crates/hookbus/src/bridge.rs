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
    admin::{Admin, JournalState, SinkStatus, SourceStatus, Status},
    config::{Ack, Config, SinkConfig, SourceConfig},
    control::{ByJournal, Redrive},
    dead_letters::{LetterBox, Unavailable},
    ingress::{
        ByteBudget, Ingress, Listener, Source,
        client::Proxies,
        tls::{Tls, TlsError, TlsPaths},
    },
    journal::{Opening, RunningJournal},
    lane::{FromJournal, Groups, Lane, LaneConfig, Running},
    metrics::{Metrics, SinkMetrics},
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
    journal: Option<RunningJournal>,
    address: SocketAddr,
    status: Arc<Status>,
    admin: Option<Admin>,
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
    /// The journal has events for a sink that is not configured any more.
    #[error(
        "the journal has {events} events for sink `{sink}`, which is not configured: put it back, or retire it with \
         `hookbus sinks retire {sink} --to OTHER` or `hookbus sinks retire {sink} --dead-letter`"
    )]
    Retired {
        /// The sink.
        sink: Arc<str>,
        /// How many.
        events: u64,
    },
    /// A sink could not be opened.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The listener's certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    /// An fsync of the journal failed: what was answered 200 is safe, but nothing more could be accepted.
    pub journal_failed: bool,
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
    /// Binds the admin listener, opens the sinks and binds the main listener. Requests are served by [`Bridge::serve`].
    ///
    /// # Errors
    /// [`StartError`]; whatever was opened by then is closed again.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let letters = Arc::new(LetterBox::new(&config));
        let opening = Opening::new(&config);
        let proxies = Proxies::new(&config.server);
        let Config { base, server, admin, sources, sinks, routes, .. } = config;
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
        let tls = server.tls.as_ref().map(|files| Tls::new(TlsPaths::new(&base, files))).transpose()?;
        let router = Arc::new(Router::new(sources.iter().map(|source| Arc::clone(&source.name)), &routes)?);
        let groups = sources.iter().map(|source| (Arc::clone(&source.name), source.order));
        let groups = Arc::new(Groups::new(groups));
        let status = Arc::new(status(&sources, &sinks));
        let metrics = Metrics::new(Arc::clone(&status));
        // First, so that it tells the truth while the rest starts.
        let admin = match admin.map(|admin| admin.listen) {
            Some(address) => {
                let bound = Admin::start(address, Arc::clone(&status), &metrics).await;
                Some(bound.map_err(|source| StartError::Listen { address, source })?)
            }
            None => None,
        };
        letters.open_existing().await?;
        let wants_journal = sources.iter().any(|source| source.ack == Ack::Journal);
        let journal = match letters.data_for_journal(wants_journal).await? {
            Some(data) => Some(opening.open(data, &metrics).await?),
            None => None,
        };
        if let Some(journal) = &journal {
            status.follow_journal(journal.state());
            letters.follow(&journal.journal);
        }
        let names: Vec<_> = sinks.iter().map(|sink| Arc::clone(&sink.name)).collect();
        let when_full = sinks.iter().map(|sink| sink.share.when_full).collect();
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
                backlog: journal.journal.backlog(at),
                groups: Arc::clone(&groups),
                dead_letters: Arc::clone(&letters),
            });
            match open(sink, &base, places, Arc::clone(&metrics.sinks[at]), from_journal).await {
                Ok((lane, run)) => {
                    status.sinks[at].follow(lane.health());
                    lanes.push(lane);
                    running.push(run);
                }
                Err(error) => {
                    stop(running, journal).await;
                    return Err(error.into());
                }
            }
        }
        let appends = journal.as_ref().map(|journal| journal.journal.clone());
        let acceptor =
            Acceptor::new(Arc::clone(&router), lanes, groups, Arc::clone(&letters), appends.clone());
        let acceptor = Arc::new(acceptor.when_full(when_full));
        let redrive: Arc<dyn Redrive> = match appends {
            Some(journal) => Arc::new(ByJournal { journal, sinks: names, router }),
            None => Arc::new(ByLanes(Arc::downgrade(&acceptor))),
        };
        letters.take_commands(redrive);
        let budget = ByteBudget::new(server.limits.in_flight.as_len());
        let waiting =
            |source: &SourceConfig| Waiting { ack: source.ack, ack_timeout: source.ack_timeout.get() };
        let sources = verifiers.into_iter().zip(&sources).zip(&metrics.sources);
        let source = |((verifier, source), metrics): ((_, _), &Arc<_>)| {
            Source::new(verifier, waiting(source), &budget, Arc::clone(metrics))
                .limited_to(source.rate_limit.as_ref())
        };
        let sources = sources.map(source).collect();
        let ingress = Ingress::new(sources, Arc::clone(&acceptor), server.limits, server.timeouts, metrics);
        let ingress = ingress.behind(proxies).with_tls(tls);
        let bound = Listener::bind(server.listen, ingress).await;
        let listening = bound.and_then(|listener| listener.address().map(|address| (listener, address)));
        match listening {
            Ok((listener, address)) => {
                status.listening();
                Ok(Self { listener, acceptor, letters, lanes: running, journal, address, status, admin })
            }
            Err(source) => {
                letters.stop().await;
                stop(running, journal).await;
                Err(StartError::Listen { address: server.listen, source })
            }
        }
    }

    /// The address it listens at; with port 0 in the configuration the one the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the admin listener, where there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// How each sink is doing, by its name, now and from now on.
    pub fn health(&self) -> Vec<(Arc<str>, watch::Receiver<Health>)> {
        self.acceptor.lanes().iter().map(|lane| (Arc::clone(lane.name()), lane.health())).collect()
    }

    /// Serves requests until `shutdown` is there, then ends in order: requests in progress are answered, within
    /// `timeouts.grace`; then the lanes finish what is in flight and close their sinks. The admin listener goes last.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Summary {
        let Self { listener, lanes, acceptor, letters, journal, status, admin, .. } = self;
        let failed = failed(journal.as_ref());
        let asked = async {
            tokio::select! {
                () = shutdown => {}
                () = failed => tracing::error!("stopping: the journal has failed"),
            }
            status.stopping();
        };
        let stopped = listener.serve(asked).await;
        letters.stop().await;
        let journal_failed =
            journal.as_ref().is_some_and(|journal| *journal.state().borrow() == JournalState::Failed);
        stop(lanes, journal).await;
        if let Some(admin) = admin {
            admin.stop().await;
        }
        drop(acceptor);
        Summary { connections_cut: stopped.cut, journal_failed }
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What is known of the bridge before it has started.
fn status(sources: &[SourceConfig], sinks: &[SinkConfig]) -> Status {
    let source = |source: &SourceConfig| SourceStatus {
        name: Arc::clone(&source.name),
        awaits_secret: source.secrets.is_empty(),
    };
    let sink = |sink: &SinkConfig| SinkStatus::new(Arc::clone(&sink.name), sink.share.required);
    Status::new(sources.iter().map(source).collect(), sinks.iter().map(sink).collect())
}

async fn open(
    sink: SinkConfig,
    base: &std::path::Path,
    places: Vec<Address>,
    metrics: Arc<SinkMetrics>,
    journal: Option<FromJournal>,
) -> Result<(Lane, Running), SinkError> {
    let SinkConfig { name, publish_timeout, prepared, .. } = sink;
    let connecting = prepared.connect(SinkContext::new(&name, base));
    let late =
        || SinkError::new(hookbus_core::ErrorKind::Timeout, "connect", "the sink did not open within 30s");
    let opened = tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(late()));
    let opened = opened.map_err(|error| error.at_sink(&name))?;
    let publish_timeout = publish_timeout.get();
    let config =
        LaneConfig { max_events: LANE_EVENTS, max_bytes: LANE_BYTES, publish_timeout, places, metrics };
    Ok(Lane::start(name, Arc::from(opened), config, journal))
}

/// Waits for the journal to fail for good, if there is one.
fn failed(journal: Option<&RunningJournal>) -> impl Future<Output = ()> + use<> {
    let state = journal.map(RunningJournal::state);
    async move {
        if let Some(mut state) = state
            && state.wait_for(|state| *state == JournalState::Failed).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Stops all lanes side by side, so that a slow one costs the others no time; then the journal, which notes what they
/// delivered.
async fn stop(lanes: Vec<Running>, journal: Option<RunningJournal>) {
    let deadline = Instant::now() + LANE_GRACE;
    let stopping: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(lane.stop(deadline))).collect();
    for lane in stopping {
        let _ = lane.await;
    }
    if let Some(journal) = journal {
        journal.stop().await;
    }
}
