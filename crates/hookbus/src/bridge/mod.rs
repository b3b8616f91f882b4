//! A running bridge: built from a configuration, served until told to stop, and given another configuration meanwhile.

mod opening;
mod parts;
mod places;
mod reload;
mod start;

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use hookbus_core::{Health, SinkError, route::Unaddressable};
use thiserror::Error;
use tokio::sync::{oneshot, watch};

pub use reload::{Applied, Reload, ReloadError};
pub use start::Start;

use crate::{
    admin::{Admin, JournalState},
    config::Config,
    dead_letters::Unavailable,
    ingress::{Listener, tls::TlsError},
    journal::RunningJournal,
    rejected::Watch,
};
use parts::Parts;
use reload::Jobs;

/// How long lanes may take for what is in flight.
const LANE_GRACE: Duration = Duration::from_secs(5);

/// A bridge that listens.
pub struct Bridge {
    listener: Listener,
    address: SocketAddr,
    parts: Parts,
    reload: Reload,
    jobs: Jobs,
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
        Self::start_with(config, Start::default()).await
    }

    /// The same with sockets that were passed to this process, or with patience for the process before it.
    ///
    /// # Errors
    /// [`StartError`]; whatever was opened by then is closed again.
    pub async fn start_with(config: Config, start: Start) -> Result<Self, StartError> {
        let (parts, listener, address) = start.run(config).await?;
        let (reload, jobs) = Reload::new(&parts.status);
        Ok(Self { listener, address, parts, reload, jobs })
    }

    /// The address it listens at; with port 0 in the configuration the one the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the admin listener, where there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.parts.admin.as_ref().map(Admin::address)
    }

    /// How each sink is doing, by its name, now and from now on.
    pub fn health(&self) -> Vec<(Arc<str>, watch::Receiver<Health>)> {
        let acceptor = self.parts.acceptor.load();
        acceptor.lanes().iter().map(|lane| (Arc::clone(lane.name()), lane.health())).collect()
    }

    /// By this it is given another configuration while it serves.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves requests until `shutdown` is there, then ends in order: requests in progress are answered, within
    /// `timeouts.grace`; then the lanes finish what is in flight and close their sinks. The admin listener goes last.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Summary {
        let Self { listener, parts, jobs, .. } = self;
        let status = Arc::clone(&parts.status);
        let failed = failed(parts.journal.as_ref());
        let watch = Watch::start(&parts.rejected);
        // In a task of its own: whatever it is doing to a lane, it does to the end.
        let (stop, stopping) = oneshot::channel();
        let changing = tokio::spawn(parts.change(jobs, stopping));
        let asked = async {
            tokio::select! {
                () = shutdown => {}
                () = failed => tracing::error!("stopping: the journal has failed"),
            }
            status.stopping();
            drop(stop);
        };
        let stopped = listener.serve(asked).await;
        drop(watch);
        // Where it panicked everything of it is closed already.
        let journal_failed = match changing.await {
            Ok(parts) => parts.stop().await,
            Err(_) => false,
        };
        Summary { connections_cut: stopped.cut, journal_failed }
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("address", &self.address).finish_non_exhaustive()
    }
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
