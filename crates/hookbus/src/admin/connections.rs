//! The connections of the admin listener: few, short, and the newest goes first.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::answer::Shown;

/// Connections at once.
pub(super) const MOST: usize = 32;
/// A connection has so long for its one request and the answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// The largest head.
const HEAD: usize = 16 << 10;

/// Connections that are open. Each is for one request, so none is kept by a client that is idle.
#[derive(Debug, Default)]
pub(super) struct Connections {
    tasks: JoinSet<()>,
    /// In the order they came.
    ends: VecDeque<AbortHandle>,
}

impl Connections {
    /// Serves one more. At the limit the oldest one goes: an answer takes no time, so that one only waits.
    pub(super) fn serve(&mut self, stream: TcpStream, shown: &Arc<Shown>) {
        while self.tasks.try_join_next().is_some() {}
        self.ends.retain(|end| !end.is_finished());
        if self.ends.len() >= MOST
            && let Some(oldest) = self.ends.pop_front()
        {
            oldest.abort();
        }
        let shown = Arc::clone(shown);
        let end = self.tasks.spawn(async move {
            let _ = timeout(DEADLINE, one_request(stream, &shown)).await;
        });
        self.ends.push_back(end);
    }

    /// Waits until those that are open have ended, at most so long.
    pub(super) async fn ended(mut self, patience: Duration) {
        let _ = timeout(patience, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

async fn one_request(stream: TcpStream, shown: &Shown) {
    let answer = service_fn(async |request| Ok::<_, Infallible>(shown.answer(&request)));
    // The deadline of the connection is that of its headers too.
    let served = http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended early");
    }
}
