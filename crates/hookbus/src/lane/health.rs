//! How a sink is doing, as its lane sees it.

use std::time::SystemTime;

use hookbus_core::{Health, HealthState, SinkError};

use super::worker::Worker;

/// What becomes of events for a sink that takes none.
pub(super) const WAIT: &str = "wait in the journal, or are answered 503 where `ack` is `sinks`,";

impl Worker {
    pub(super) fn starting(&self) -> bool {
        self.health.borrow().state == HealthState::Starting
    }

    pub(super) fn healthy(&self) {
        match self.aside.error() {
            Some(error) => self.set_health(HealthState::Degraded, Some(error.clone())),
            None => self.set_health(HealthState::Ready, None),
        }
    }

    /// Publishes the state and logs it, once per change.
    pub(super) fn set_health(&self, state: HealthState, error: Option<SinkError>) {
        self.health.send_if_modified(|health| {
            if health.state == state {
                let kind = |error: &Option<SinkError>| error.as_ref().map(SinkError::kind);
                if let Some(error) = error.as_ref().filter(|_| kind(&health.error) != kind(&error)) {
                    tracing::warn!(sink = %self.name, %error, "sink is still {}, for another reason", state.as_str());
                }
                health.error = error;
                return false;
            }
            let lasted = SystemTime::now().duration_since(health.since).unwrap_or_default();
            match (&error, health.state) {
                (Some(error), _) if state == HealthState::Down => {
                    tracing::warn!(sink = %self.name, %error, "sink is down; its events {WAIT} until it is back");
                }
                (_, HealthState::Down) => tracing::info!(sink = %self.name, after = ?lasted, "sink is back"),
                (_, HealthState::Starting) => tracing::debug!(sink = %self.name, "sink is {}", state.as_str()),
                _ => tracing::info!(sink = %self.name, "sink is {}", state.as_str()),
            }
            *health = Health { state, since: SystemTime::now(), error };
            true
        });
    }
}
