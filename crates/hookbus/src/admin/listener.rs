//! The socket of the admin listener.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Status, answer::Shown, connections::Connections};
use crate::metrics::Metrics;

/// How long to wait after the system refused to accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);
/// How long open connections may take when asked to stop.
const GRACE: Duration = Duration::from_secs(1);

/// The running admin listener. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
    /// Sent or dropped: end.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Admin {
    /// Binds the address and serves from now on.
    pub(crate) async fn start(
        address: SocketAddr,
        status: Arc<Status>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        Self::serve(TcpListener::bind(address).await?, status, metrics)
    }

    /// Serves at this socket from now on.
    pub(crate) fn serve(
        socket: TcpListener,
        status: Arc<Status>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let shown = Arc::new(Shown { status, registry: metrics.registry() });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(socket, shown, stopped));
        tracing::info!(%address, "admin listens: /livez, /readyz, /metrics");
        Ok(Self { address, stop, task })
    }

    /// The address it listens at.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets it finish what it is answering.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        // The task keeps to the grace period itself; the margin is for its last steps.
        let _ = timeout(GRACE * 2, self.task).await;
    }
}

async fn serve(socket: TcpListener, shown: Arc<Shown>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = Connections::default();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopped => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connections.serve(stream, &shown),
            // Without a wait the kernel could report the same at once, for ever.
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept connections");
                tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    () = sleep(ACCEPT_AGAIN) => {}
                }
            }
        }
    }
    drop(socket);
    connections.ended(GRACE).await;
}
