//! How many requests of a source are kept.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Requests in any second.
const MOST: usize = 20;
const SECOND: Duration = Duration::from_secs(1);

/// Lets at most twenty through in any second, wherever it begins.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<Instant>);

impl Pace {
    /// Whether one may go through now.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        if self.0.len() == MOST {
            if self.0.front().is_some_and(|first| now.saturating_duration_since(*first) < SECOND) {
                return false;
            }
            self.0.pop_front();
        }
        self.0.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_twenty() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut admitted = Vec::new();
        // One a millisecond for five seconds, from the middle of a second.
        for millis in 500..5_500 {
            let now = start + Duration::from_millis(millis);
            if pace.admits(now) {
                admitted.push(now);
            }
        }
        assert_eq!(admitted.len(), 100);
        for window in admitted.windows(MOST + 1) {
            assert!(window[MOST] - window[0] >= SECOND);
        }
    }
}
