//! One blocking job at a time, for sinks on files and pipes.

use std::{io, sync::Arc};

use hookbus_core::{ErrorKind, SinkError};
use tokio::sync::Semaphore;

/// Runs blocking jobs of one sink, one at a time.
///
/// A lane drops a publish that takes too long, but a thread that is stuck in a write cannot be dropped. Until it is
/// done nothing more is begun: else every try would add a stuck thread, and a duplicate once the pipe opens.
#[derive(Debug)]
pub(super) struct Single {
    free: Arc<Semaphore>,
}

impl Single {
    pub(super) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(1)) }
    }

    /// Runs a job where blocking is allowed.
    ///
    /// # Errors
    /// Unavailable, without having begun, while an earlier job is not done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SinkError> {
        let busy = |_| SinkError::new(ErrorKind::Unavailable, operation, "an earlier write is not finished");
        let place = Arc::clone(&self.free).try_acquire_owned().map_err(busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = job();
            drop(place);
            done
        });
        let cut = |error| {
            SinkError::new(ErrorKind::Unexpected, operation, "the write was cut short").with_source(error)
        };
        done.await.map_err(|error| cut(io::Error::other(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_begins_while_an_earlier_job_is_stuck() {
        let single = Arc::new(Single::new());
        let (go_on, stuck) = std::sync::mpsc::sync_channel::<()>(0);
        let first = tokio::spawn({
            let single = Arc::clone(&single);
            async move { single.run("write", move || stuck.recv().is_ok()).await }
        });
        while single.free.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert_eq!(single.run("write", || ()).await.unwrap_err().kind(), ErrorKind::Unavailable);
        go_on.send(()).unwrap();
        while single.free.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(single.run("write", || ()).await.is_ok());
    }
}
