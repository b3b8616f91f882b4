//! The generic cell rate algorithm: a token bucket in one number.
//!
//! That number is when the bucket will be full again, in nanoseconds of a clock that begins anywhere. Each request moves
//! it on by one interval; as long as it lies no further ahead than the burst, requests are taken.

use std::time::Duration;

use crate::config::RateLimit;

/// How fast requests may come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two requests in the long run.
    interval: u64,
    /// How far ahead the bucket's fullness may lie for a request to be taken.
    ahead: u64,
}

impl Pace {
    /// As configured.
    pub(crate) fn new(limit: &RateLimit) -> Self {
        let interval = u64::try_from(limit.interval().as_nanos()).unwrap_or(u64::MAX);
        Self { interval, ahead: interval.saturating_mul(u64::from(limit.burst().saturating_sub(1))) }
    }

    /// How long to wait until one is taken; zero where that is now.
    pub(super) fn wait(self, due: u64, now: u64) -> Duration {
        Duration::from_nanos(due.saturating_sub(now).saturating_sub(self.ahead))
    }

    /// When the bucket will be full again, once one more is charged. Never more than is refused at all: who goes on
    /// in vain waits no longer for that.
    pub(super) fn charged(self, due: u64, now: u64) -> u64 {
        let latest = now.saturating_add(self.ahead).saturating_add(self.interval);
        due.max(now).saturating_add(self.interval).min(latest)
    }
}
