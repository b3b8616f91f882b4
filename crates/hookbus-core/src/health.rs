//! How a sink is doing.

use std::time::SystemTime;

use crate::SinkError;

/// How a sink is doing, and since when.
#[derive(Clone, Debug)]
pub struct Health {
    /// The state now.
    pub state: HealthState,
    /// When it entered that state.
    pub since: SystemTime,
    /// The error that led here, for `Degraded` and `Down`.
    pub error: Option<SinkError>,
}

impl Health {
    /// A sink that has not delivered or answered anything yet.
    pub fn starting() -> Self {
        Self { state: HealthState::Starting, since: SystemTime::now(), error: None }
    }
}

/// The states of a sink's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Not heard from yet.
    Starting,
    /// The last publish or probe went well.
    Ready,
    /// It works, but some address of it does not.
    Degraded,
    /// Its lane is paused until a probe is answered.
    Down,
}

impl HealthState {
    /// All states, for documentation and metrics.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Ready, Self::Degraded, Self::Down];

    /// The state in one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}
