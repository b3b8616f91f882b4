//! When the next request is due.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// The least time between two wake-ups of the pacer of an offered rate: what falls due between is released at once.
const TICK: Duration = Duration::from_micros(50);
/// How long after the end a request that fell due in time may still be sent.
const LAST: Duration = Duration::from_millis(100);

/// Hands out requests: each at once, or each at its own time.
#[derive(Debug)]
pub(super) struct Pace {
    start: OnceLock<Instant>,
    next: AtomicU64,
    /// For so long, or so many requests.
    duration: Duration,
    count: u64,
    offered: Option<Offered>,
}

/// A fixed rate, whatever the answers do.
#[derive(Debug)]
struct Offered {
    per_second: f64,
    /// One permit a request that is due.
    due: Semaphore,
    released: AtomicU64,
}

/// A request to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) number: u64,
    /// When it was due: latency counts from here, so that a stall counts for all who waited through it.
    pub(super) due: Instant,
}

impl Pace {
    pub(super) fn new(duration: Duration, count: Option<u64>, per_second: Option<f64>) -> Self {
        let offered =
            |per_second| Offered { per_second, due: Semaphore::new(0), released: AtomicU64::new(0) };
        Self {
            start: OnceLock::new(),
            next: AtomicU64::new(0),
            duration,
            count: count.unwrap_or(u64::MAX),
            offered: per_second.map(offered),
        }
    }

    /// The start of the clock: the first call sets it.
    pub(super) fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    /// The end of the clock.
    pub(super) fn end(&self) -> Instant {
        self.start() + self.duration
    }

    /// The next request, once it is due; `None` when all is done.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let Some(offered) = &self.offered else {
            let (number, due) = (self.next.fetch_add(1, Ordering::Relaxed), Instant::now());
            return (number < self.count && due < self.end()).then_some(Turn { number, due });
        };
        offered.due.acquire().await.ok()?.forget();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some(Turn { number, due: self.start() + Duration::from_secs_f64(number as f64 / offered.per_second) })
    }

    /// Releases requests as they fall due; to be run on a thread of its own until it returns.
    ///
    /// A thread, because the timers of the runtime count whole milliseconds.
    pub(super) fn release(&self) {
        let Some(offered) = &self.offered else { return };
        loop {
            let since = self.start().elapsed().min(self.duration);
            // Request n is due at n / rate: all before this moment are. Less a little, for what does not divide evenly.
            let due = ((since.as_secs_f64() * offered.per_second - 1e-9).ceil() as u64).min(self.count);
            let fresh = due - offered.released.swap(due, Ordering::Relaxed);
            offered.due.add_permits(usize::try_from(fresh).unwrap_or(Semaphore::MAX_PERMITS));
            if since == self.duration || due == self.count {
                break;
            }
            let next = Duration::from_secs_f64(due as f64 / offered.per_second).min(self.duration);
            thread::park_timeout(next.saturating_sub(self.start().elapsed()).max(TICK));
        }
    }

    /// Ends the wait of all connections; what nobody takes within [`LAST`] was offered and not sent.
    pub(super) fn close(&self) {
        let Some(offered) = &self.offered else { return };
        let deadline = Instant::now() + LAST;
        // Not the permits: one that was handed to a connection, but not yet seen by it, is lost by closing.
        while self.unsent() > 0 && Instant::now() < deadline {
            thread::park_timeout(TICK);
        }
        offered.due.close();
    }

    /// How many requests fell due and were not sent.
    pub(super) fn unsent(&self) -> u64 {
        let taken = self.next.load(Ordering::Relaxed);
        self.offered
            .as_ref()
            .map_or(0, |offered| offered.released.load(Ordering::Relaxed).saturating_sub(taken))
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_closed_loop_ends_at_its_count() {
        let pace = Pace::new(Duration::from_secs(60), Some(3), None);
        let runtime = Builder::new_current_thread().build().unwrap();
        let numbers = runtime.block_on(async {
            let mut numbers = Vec::new();
            while let Some(turn) = pace.turn().await {
                numbers.push(turn.number);
            }
            numbers
        });
        assert_eq!(numbers, [0, 1, 2]);
    }

    #[test]
    fn a_request_is_released_when_it_is_due_and_not_one_later() {
        let pace = Pace::new(Duration::from_secs(60), Some(1), Some(0.1));
        // The second one would be due in ten seconds.
        pace.release();
        let runtime = Builder::new_current_thread().build().unwrap();
        let turn = runtime.block_on(pace.turn()).unwrap();
        assert_eq!(turn.due, pace.start());
        assert!(pace.start().elapsed() < Duration::from_secs(10), "it waited for the second one");
    }

    #[test]
    fn an_offered_rate_releases_all_that_falls_due_and_counts_what_nobody_took() {
        let pace = Pace::new(Duration::from_millis(50), None, Some(1_000.0));
        pace.release();
        let runtime = Builder::new_current_thread().build().unwrap();
        let turn = runtime.block_on(async {
            pace.turn().await.unwrap();
            pace.turn().await.unwrap()
        });
        assert_eq!(turn.due - pace.start(), Duration::from_millis(1));
        pace.close();
        assert!(runtime.block_on(pace.turn()).is_none());
        assert_eq!(pace.unsent(), 48);
    }
}
