//! How long to wait before the next try: exponential, with full jitter.

use std::time::Duration;

/// The first wait is at most this long, each further one at most twice as long.
const BASE: Duration = Duration::from_millis(100);
/// No wait is longer.
const CAP: Duration = Duration::from_secs(30);
/// Waits before probes grow with so many failures, to 6.4 seconds.
const PROBES: u32 = 7;
/// No wait is shorter, so that a failing destination is not hammered by lucky draws.
const FLOOR: Duration = Duration::from_millis(10);

/// The wait before try `failures + 1`, with `random` anywhere in its range: lanes of many instances that failed
/// together do not try again together.
pub(super) fn wait(failures: u32, random: u32) -> Duration {
    let ceiling = BASE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(CAP);
    let span = ceiling.saturating_sub(FLOOR);
    FLOOR + span.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The wait before the next probe: probes are cheap, and a destination that is back should not go unnoticed for long.
pub(super) fn until_probe(failures: u32) -> Duration {
    jittered(failures.min(PROBES))
}

/// A wait with a random number of the system's.
pub(super) fn jittered(failures: u32) -> Duration {
    // Without randomness the longest wait is still a right one.
    wait(failures, getrandom::u32().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_never_vanish() {
        let ceilings: Vec<_> = (1..=12).map(|failures| wait(failures, u32::MAX).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]);
        assert_eq!(wait(1, 0), FLOOR);
        assert_eq!(wait(u32::MAX, u32::MAX), CAP);
        assert_eq!(wait(0, u32::MAX), BASE);
    }
}
