//! The sinks of a bridge by their places, which they keep as long as it runs.

use std::{sync::Arc, time::Duration};

use hookbus_core::{Address, Sink, registry::Prepared};
use tokio::time::Instant;

use crate::{
    config::{Share, SinkConfig},
    dead_letters::LetterBox,
    journal::RunningJournal,
    lane::{FromJournal, Groups, Lane, LaneConfig, Running},
    metrics::SinkMetrics,
};

/// Events a lane holds at most.
const LANE_EVENTS: usize = 8192;
/// Bytes of events a lane holds at most.
const LANE_BYTES: usize = 64 << 20;

/// A sink at its place: the one the journal knows it by, where there is a journal.
pub(super) struct Placed {
    pub(super) name: Arc<str>,
    pub(super) sink_type: &'static str,
    /// What no second sink may use beside it.
    pub(super) claims: Option<String>,
    pub(super) lane: Arc<Lane>,
    /// Nothing once the lane has ended.
    pub(super) running: Option<Running>,
    /// Whether it is in the configuration. One that is not has its lane as long as anything is left for it.
    pub(super) configured: bool,
    /// It could not be opened again: the next configuration tries once more.
    pub(super) broken: bool,
    /// How often it was taken out of the configuration.
    pub(super) removals: u64,
}

/// What a configuration says of a sink, but for what opens it.
#[derive(Clone)]
pub(super) struct Definition {
    pub(super) name: Arc<str>,
    pub(super) sink_type: &'static str,
    pub(super) claims: Option<String>,
    pub(super) publish_timeout: Duration,
    pub(super) share: Share,
}

/// Parts a sink's configuration.
pub(super) fn split(config: SinkConfig) -> (Definition, Prepared) {
    let SinkConfig { name, sink_type, publish_timeout, share, prepared } = config;
    let claims = prepared.claims().map(str::to_owned);
    (Definition { name, sink_type, claims, publish_timeout: publish_timeout.get(), share }, prepared)
}

/// What a lane is started with.
pub(super) struct LaneParts<'p> {
    pub(super) at: usize,
    pub(super) places: Vec<Address>,
    pub(super) metrics: Arc<SinkMetrics>,
    pub(super) journal: Option<&'p RunningJournal>,
    pub(super) groups: &'p Arc<Groups>,
    pub(super) letters: &'p Arc<LetterBox>,
}

impl Placed {
    /// Starts a lane for a sink that is open.
    pub(super) fn start(definition: Definition, sink: Arc<dyn Sink>, parts: LaneParts<'_>) -> Self {
        let LaneParts { at, places, metrics, journal, groups, letters } = parts;
        let from_journal = journal.map(|journal| FromJournal {
            backlog: journal.journal.backlog(at),
            groups: Arc::clone(groups),
            dead_letters: Arc::clone(letters),
        });
        let Definition { name, sink_type, claims, publish_timeout, .. } = definition;
        let lane =
            LaneConfig { max_events: LANE_EVENTS, max_bytes: LANE_BYTES, publish_timeout, places, metrics };
        let (lane, running) = Lane::start(Arc::clone(&name), sink, lane, from_journal);
        Self {
            name,
            sink_type,
            claims,
            lane: Arc::new(lane),
            running: Some(running),
            configured: true,
            broken: false,
            removals: 0,
        }
    }
}

/// Stops lanes side by side, so that a slow one costs the others no time.
pub(super) async fn stop(placed: impl IntoIterator<Item = Placed>, deadline: Instant) {
    let running = placed.into_iter().filter_map(|placed| placed.running);
    let stopping: Vec<_> = running.map(|lane| tokio::spawn(lane.stop(deadline))).collect();
    for lane in stopping {
        let _ = lane.await;
    }
}
