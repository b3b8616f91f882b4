//! One blocking job at a time, for sinks on files and pipes.

use std::{io, sync::Arc};

use hookbus_core::{ErrorKind, Instant, SinkError};
use tokio::{sync::Semaphore, time::timeout_at};

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

    /// Runs a job where blocking is allowed, once all earlier ones are done.
    ///
    /// # Errors
    /// Unavailable, without having begun, where an earlier job is not done by the deadline.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        deadline: Instant,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SinkError> {
        let stuck = || SinkError::new(ErrorKind::Unavailable, operation, "an earlier write is not finished");
        let place = timeout_at(deadline, Arc::clone(&self.free).acquire_owned()).await;
        // Invariant: nobody closes the semaphore.
        let place = place.map_err(|_| stuck())?.map_err(|_| stuck())?;
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
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn nothing_begins_while_an_earlier_job_is_stuck() {
        let single = Arc::new(Single::new());
        let (go_on, stuck) = std::sync::mpsc::sync_channel::<()>(0);
        let (soon, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        let first = tokio::spawn({
            let single = Arc::clone(&single);
            async move { single.run("write", later, move || stuck.recv().is_ok()).await }
        });
        while single.free.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        let refused = single.run("write", soon, || ()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        let waiting = single.run("write", later, || "begun");
        let (done, sent) = tokio::join!(waiting, async { go_on.send(()) });
        assert_eq!((done.unwrap(), sent), ("begun", Ok(())));
    }
}
