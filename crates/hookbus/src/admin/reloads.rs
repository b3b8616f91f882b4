//! Which configuration is served, and whether a newer one was refused.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use hookbus_core::EventTime;
use serde_json::{Value, json};

/// What became of reloads.
#[derive(Debug)]
pub(crate) struct Reloads(Mutex<State>);

#[derive(Clone, Debug)]
struct State {
    /// When what is served was loaded.
    loaded: SystemTime,
    applied: u64,
    refused: u64,
    /// When the newest was refused, wholly or in part, and why; nothing once one is applied.
    problem: Option<(SystemTime, String)>,
}

/// What is counted of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReloadFigures {
    /// By their result: applied, refused.
    pub(crate) results: [(&'static str, u64); 2],
    /// When what is served was loaded.
    pub(crate) loaded: SystemTime,
    /// Whether the newest configuration and all secrets are in use.
    pub(crate) current: bool,
}

impl Default for Reloads {
    fn default() -> Self {
        Self(Mutex::new(State { loaded: SystemTime::now(), applied: 0, refused: 0, problem: None }))
    }
}

impl Reloads {
    /// A configuration is in use from now on; with what of it could not be had, where that is so.
    pub(crate) fn applied(&self, problem: Option<String>) {
        let (mut state, now) = (self.lock(), SystemTime::now());
        state.applied += 1;
        state.loaded = now;
        state.problem = problem.map(|problem| (now, problem));
    }

    /// One was not taken: the one before is served.
    pub(crate) fn refused(&self, why: String) {
        let mut state = self.lock();
        state.refused += 1;
        state.problem = Some((SystemTime::now(), why));
    }

    pub(crate) fn figures(&self) -> ReloadFigures {
        let State { loaded, applied, refused, problem } = self.lock().clone();
        ReloadFigures {
            results: [("applied", applied), ("refused", refused)],
            loaded,
            current: problem.is_none(),
        }
    }

    pub(super) fn json(&self) -> Value {
        let State { loaded, problem, .. } = self.lock().clone();
        let time = |time| EventTime::from(time).to_string();
        let refused = problem.map(|(at, why)| json!({ "at": time(at), "why": why }));
        json!({ "loaded": time(loaded), "refused": refused })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
