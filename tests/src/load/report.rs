//! What a run showed.

use std::{collections::BTreeMap, time::Instant};

use serde::Serialize;

use super::{Events, Settings, client::Tally};

/// The figures of a run; `load` prints them as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Requests that were answered, with whatever status.
    pub requests: u64,
    /// From the start to the last answer.
    pub seconds: f64,
    /// Answers per second.
    pub per_second: f64,
    /// The rate that was offered, where there was one.
    pub offered_per_second: Option<f64>,
    /// Latencies of answered requests.
    pub latency_us: Latency,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Failed connections and exchanges, by what was said.
    pub errors: BTreeMap<String, u64>,
    /// Requests whose answer did not come within five seconds of the end.
    pub unanswered: u64,
    /// Requests that fell due and that no connection was free to send.
    pub unsent: u64,
    /// Connections.
    pub connections: usize,
    /// Threads of the generator.
    pub threads: usize,
    /// Distinct events prepared.
    pub events: usize,
    /// Present where events were sent more than once, because there were fewer than requests.
    pub note: Option<String>,
}

/// Latencies in microseconds, counted from when the request was due.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half were answered within this.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// All.
    pub max: f64,
}

impl Report {
    pub(super) fn new(
        settings: &Settings,
        threads: usize,
        events: &Events,
        unsent: u64,
        start: Instant,
        tally: &Tally,
    ) -> Self {
        let latencies = &tally.latencies;
        let requests = latencies.len();
        let seconds = tally.last.map_or(0.0, |last| last.saturating_duration_since(start).as_secs_f64());
        let micros = |duration: std::time::Duration| (duration.as_secs_f64() * 1e7).round() / 10.0;
        let distinct = events.count();
        let reused = requests > distinct as u64;
        Self {
            requests,
            seconds,
            per_second: if seconds > 0.0 { requests as f64 / seconds } else { 0.0 },
            offered_per_second: settings.per_second,
            latency_us: Latency {
                p50: micros(latencies.quantile(0.5)),
                p90: micros(latencies.quantile(0.9)),
                p99: micros(latencies.quantile(0.99)),
                p999: micros(latencies.quantile(0.999)),
                max: micros(latencies.max()),
            },
            statuses: tally.statuses.clone(),
            errors: tally.errors.clone(),
            unanswered: tally.unanswered,
            unsent,
            connections: settings.connections,
            threads,
            events: distinct,
            note: reused
                .then(|| format!("{distinct} distinct events for {requests} requests: some were sent again")),
        }
    }
}
