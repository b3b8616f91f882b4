//! Another configuration for a bridge that runs.
//!
//! Everything that can fail is done first: secrets are read, addresses bound, new sinks opened. Then it is exchanged as a
//! whole, and nothing of that can be refused any more. A request that has begun ends by what it began with.

mod exchange;
mod prepare;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use hookbus_core::{SinkError, route::Unaddressable};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::parts::Parts;
use crate::{
    admin::Status,
    config::{Changes, Config, ConfigError},
    ingress::tls::TlsError,
};

/// Configurations that wait for the one that is being applied.
const WAITING: usize = 4;

/// By this a running bridge is given another configuration.
#[derive(Clone, Debug)]
pub struct Reload {
    jobs: mpsc::Sender<Job>,
    status: Arc<Status>,
}

pub(super) type Jobs = mpsc::Receiver<Job>;

/// A configuration on its way in.
#[derive(Debug)]
pub(super) struct Job {
    config: Box<Config>,
    answer: oneshot::Sender<Result<Applied, ReloadError>>,
}

/// What a reload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// How the configuration differs from the one before.
    pub changes: Changes,
    /// Sources whose secrets are others.
    pub secrets: Vec<Arc<str>>,
    /// What could not be had, so that something stayed as it was: lines without anything secret.
    pub problems: Vec<String>,
}

/// Why a configuration was not taken. The one before is still in force, the whole of it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// Secrets that cannot be had or used; one line each, showing none of them.
    #[error("{}", .0.join("\n"))]
    Secrets(Vec<String>),
    /// Keys that only a restart changes.
    #[error("a running bridge cannot change {}: restart it", .0.join(", "))]
    NeedsRestart(Vec<String>),
    /// A sink that was taken out has events to get and does not take them.
    #[error(
        "sink `{sink}` is not ready and {events} events wait for it: leave it in until it has them, or stop the bridge and \
         retire it with `hookbus sinks retire {sink} --to OTHER` or `hookbus sinks retire {sink} --dead-letter`"
    )]
    Pending {
        /// The sink.
        sink: Arc<str>,
        /// How many.
        events: u64,
    },
    /// A sink is to be of another type under its old name.
    #[error(
        "sink `{sink}` was of type `{was}` and is `{is}` now, where addresses are others: give the new sink another name"
    )]
    OtherType {
        /// The sink.
        sink: Arc<str>,
        /// Its type before.
        was: &'static str,
        /// Its type in the new configuration.
        is: &'static str,
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
    /// The new address to listen at is taken or not ours.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The bridge is stopping.
    #[error("the bridge is stopping")]
    Stopping,
}

impl ReloadError {
    /// The same for a page that anybody near may read: what drivers say is for the log.
    fn shown(&self) -> String {
        match self {
            Self::Sink(error) => format!("a sink could not be opened: {}", error.kind().as_str()),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changes, secrets, .. } = self;
        match (changes.is_empty(), secrets.is_empty()) {
            (_, true) => write!(f, "{changes}"),
            (true, false) => write!(f, "new secrets: {}", secrets.join(", ")),
            (false, false) => write!(f, "{changes}; new secrets: {}", secrets.join(", ")),
        }
    }
}

impl Reload {
    pub(super) fn new(status: &Arc<Status>) -> (Self, Jobs) {
        let (jobs, waiting) = mpsc::channel(WAITING);
        (Self { jobs, status: Arc::clone(status) }, waiting)
    }

    /// Puts a configuration in force, the whole of it or nothing. Secrets are read anew; where one of a source that is
    /// otherwise unchanged cannot be had, that source keeps those it has, and the answer says so.
    ///
    /// # Errors
    /// [`ReloadError`]; also where the bridge does not serve.
    pub async fn apply(&self, config: Config) -> Result<Applied, ReloadError> {
        let (answer, applied) = oneshot::channel();
        let job = Job { config: Box::new(config), answer };
        self.jobs.send(job).await.map_err(|_| ReloadError::Stopping)?;
        applied.await.unwrap_or(Err(ReloadError::Stopping))
    }

    /// Notes that there is a configuration that cannot be used.
    pub(crate) fn refused(&self, error: &ConfigError) {
        let why = match error {
            ConfigError::Wrong(mistakes) => mistakes.summary(),
            other => other.to_string(),
        };
        self.status.reloads.refused(why);
    }
}

impl Parts {
    /// Applies configurations as they come, one at a time, until the bridge is to stop.
    pub(super) async fn change(mut self, mut jobs: Jobs, mut stopping: oneshot::Receiver<()>) -> Self {
        let mut leaving = JoinSet::new();
        loop {
            let Job { config, answer } = tokio::select! {
                biased;
                _ = &mut stopping => break,
                Some(left) = leaving.join_next(), if !leaving.is_empty() => {
                    if let Ok(left) = left {
                        self.end_lane(left).await;
                    }
                    continue;
                }
                Some(job) = jobs.recv() => job,
            };
            let prepared = tokio::select! {
                biased;
                _ = &mut stopping => break,
                prepared = self.prepare(*config) => prepared,
            };
            let applied = match prepared {
                Ok(prepared) => {
                    let applied = self.exchange(prepared, &mut leaving).await;
                    // A record that was not wanted before begins now.
                    if let Err(error) = self.letters.keep_rejected(&self.rejected).await {
                        tracing::warn!(%error, "rejected requests are not kept");
                    }
                    Ok(applied)
                }
                Err(error) => Err(error),
            };
            self.tell(&applied);
            // Whoever asked may be gone.
            let _ = answer.send(applied);
        }
        self
    }

    /// Shows what a reload came to, and then logs it: whoever reads the log finds it shown.
    fn tell(&self, applied: &Result<Applied, ReloadError>) {
        match applied {
            Ok(done @ Applied { problems, .. }) => {
                self.status.reloads.applied((!problems.is_empty()).then(|| problems.join("; ")));
                tracing::info!("configuration reloaded: {done}");
                problems.iter().for_each(|problem| tracing::error!("not all of it could be had: {problem}"));
            }
            Err(error) => {
                self.status.reloads.refused(error.shown());
                tracing::error!("configuration refused, the one before stays in force: {error}");
            }
        }
    }
}
