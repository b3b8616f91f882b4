//! Telling the operator of refused requests without letting a flood of them write the log.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// At most one line a source in so long.
const EVERY: Duration = Duration::from_secs(10);

/// The refused requests of a source.
#[derive(Debug)]
pub(super) struct Refusals {
    source: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    unreported: u64,
}

impl Refusals {
    pub(super) fn new(source: &str) -> Self {
        Self { source: source.to_owned(), state: Mutex::default() }
    }

    /// Notes a refused request; writes a line where the last one is long enough ago.
    pub(super) fn note(&self, reason: &'static str) {
        let more = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if state.last.is_some_and(|last| now.duration_since(last) < EVERY) {
                state.unreported += 1;
                return;
            }
            state.last = Some(now);
            std::mem::take(&mut state.unreported)
        };
        tracing::warn!(source = self.source, reason, unreported_before = more, "request refused");
    }
}
