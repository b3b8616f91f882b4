//! How many requests are taken: authentic ones by source, refused ones by address.
//!
//! A source's rate is charged after verification, so nobody who cannot sign uses any of it up. An address is charged for
//! what it sends in vain, and one that has sent an authentic request lately is not limited at all: what comes from a
//! provider's machines in another's name must not cost the provider's own requests. The time is given, never asked for.

mod addresses;
mod charge;
mod pace;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

pub(crate) use addresses::Addresses;
pub(crate) use pace::Pace;

/// What was taken of a source's rate: one number, changed by one operation for each request.
#[derive(Debug)]
pub(crate) struct Taken {
    started: Instant,
    due: AtomicU64,
}

impl Taken {
    /// Nothing: all of a burst is to be had.
    pub(crate) fn new(started: Instant) -> Self {
        Self { started, due: AtomicU64::new(0) }
    }

    /// Takes one request at this pace; else says how long to wait for the next.
    pub(crate) fn take(&self, pace: Pace, now: Instant) -> Result<(), Duration> {
        let now = since(self.started, now);
        let mut wait = Duration::ZERO;
        let taken = self.due.fetch_update(Relaxed, Relaxed, |due| match pace.wait(due, now) {
            Duration::ZERO => Some(pace.charged(due, now)),
            longer => {
                wait = longer;
                None
            }
        });
        taken.map(|_| ()).map_err(|_| wait)
    }
}

/// Nanoseconds; enough for five centuries.
fn since(started: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(started).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RateLimit;

    fn pace(text: &str) -> Pace {
        let limits = toml::from_str::<std::collections::HashMap<String, RateLimit>>(&format!("x = {text}"));
        Pace::new(&limits.unwrap()["x"])
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_at_a_time() {
        let started = Instant::now();
        let (rate, pace) = (Taken::new(started), pace("{ rate = '10/s', burst = 3 }"));
        let after = |millis| {
            rate.take(pace, started + Duration::from_millis(millis)).map_err(|wait| wait.as_millis())
        };
        assert_eq!([after(0), after(0), after(0)], [Ok(()); 3]);
        assert_eq!(after(0), Err(100));
        assert_eq!(after(60), Err(40));
        assert_eq!(after(100), Ok(()));
        assert_eq!(after(100), Err(100), "what is refused is not charged, what is taken is");
        // A second of silence is worth no more than the burst.
        assert_eq!([after(5_000), after(5_000), after(5_000)], [Ok(()); 3]);
        assert_eq!(after(5_000), Err(100));
    }

    #[test]
    fn in_the_long_run_the_rate_is_what_it_says() {
        let started = Instant::now();
        let (rate, pace) = (Taken::new(started), pace("'500/s'"));
        let offered = (0..100_000_u64)
            .filter(|step| rate.take(pace, started + Duration::from_micros(step * 100)).is_ok());
        let taken = offered.count();
        assert!((5_400..=5_500).contains(&taken), "{taken} in ten seconds, 500 of them at once");
    }

    #[test]
    fn threads_together_take_no_more_than_one_would() {
        let started = Instant::now();
        let (rate, pace) = (Taken::new(started), pace("{ rate = '1/h', burst = 1000 }"));
        let take = || (0..1_000).filter(|_| rate.take(pace, started).is_ok()).count();
        let taken: usize = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }

    #[test]
    fn the_longest_burst_of_the_slowest_rate_fits() {
        let started = Instant::now();
        let (rate, pace) = (Taken::new(started), pace("{ rate = '1/h', burst = 1000000 }"));
        assert!((0..1_000_000).all(|_| rate.take(pace, started).is_ok()));
        assert_eq!(rate.take(pace, started), Err(Duration::from_secs(3_600)));
    }
}
