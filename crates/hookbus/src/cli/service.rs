//! What a service manager hears of us, where one listens: by `NOTIFY_SOCKET`, as systemd has it.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// The service manager. Without one nothing is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service(());

impl Service {
    pub(super) fn new() -> Self {
        Self(())
    }

    /// Requests are served.
    pub(super) fn ready(self, status: &str) {
        Self::say(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The configuration is being read again; [`Service::ready`] follows in any case.
    pub(super) fn reloading(self) {
        // Without the time the manager would take an earlier word for the answer.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => Self::say(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager cannot be told of a reload"),
        }
    }

    /// No new requests are served.
    pub(super) fn stopping(self) {
        Self::say(&[NotifyState::Stopping, NotifyState::Status("answering what is in progress")]);
    }

    /// Says again and again that we are alive, as often as the manager wants to hear it. Never ends.
    pub(super) async fn keep_alive(self) -> std::convert::Infallible {
        let Some(within) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
        // Twice as often, as it asks for.
        let mut beat = interval((within / 2).max(Duration::from_millis(1)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            Self::say(&[NotifyState::Watchdog]);
        }
    }

    fn say(states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}
