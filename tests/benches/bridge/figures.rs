//! The figures of a run and how they are shown.

use std::time::Duration;

use hookbus_brokers::Kind;
use hookbus_tests::load::Report;
use serde_json::json;

use crate::{server::Usage, support::Ack};

/// What runs with one server showed.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Answers of 200 in a closed loop.
    pub(crate) per_second: f64,
    /// Events that were where they should be, from the first request to the last arrival.
    drained_per_second: f64,
    /// Of the server's own, from the first request to the last arrival.
    cpu_us: f64,
    rss_mib: f64,
    peak_mib: f64,
    /// At the offered rate.
    p50_us: f64,
    p99_us: f64,
    syncs: Option<u64>,
    /// Answers of 503: by a journal there are none, and by sinks where more is offered than the bus takes.
    refused: u64,
    /// Any other answer but 200, broken connections, and requests that were not answered or not sent.
    errors: u64,
}

impl Figures {
    pub(crate) fn new(
        closed: &Report,
        open: &Report,
        drained: Duration,
        usage: Usage,
        syncs: Option<u64>,
    ) -> Self {
        let accepted = closed.statuses.get(&200).copied().unwrap_or_default() as f64;
        Self {
            per_second: accepted / closed.seconds,
            drained_per_second: accepted / drained.as_secs_f64(),
            cpu_us: usage.cpu.as_secs_f64() * 1e6 / accepted,
            rss_mib: usage.rss as f64 / 1024.0,
            peak_mib: usage.peak as f64 / 1024.0,
            p50_us: open.latency_us.p50,
            p99_us: open.latency_us.p99,
            syncs,
            refused: [closed, open].iter().filter_map(|report| report.statuses.get(&503)).sum(),
            errors: errors(closed) + errors(open),
        }
    }
}

fn errors(report: &Report) -> u64 {
    let others =
        report.statuses.iter().filter(|(status, _)| ![200, 503].contains(*status)).map(|(_, count)| count);
    others.chain(report.errors.values()).sum::<u64>() + report.unanswered + report.unsent
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    server: String,
    ack: String,
    figures: Figures,
    /// What the floor of the same minute answered a second.
    floor: f64,
}

impl Row {
    pub(crate) fn floor(figures: Figures) -> Self {
        Self { server: "floor".into(), ack: "-".into(), floor: figures.per_second, figures }
    }

    /// `floor`: the mean of the one before and the one after.
    pub(crate) fn bridge(kind: Kind, ack: Ack, figures: Figures, floor: f64) -> Self {
        Self { server: kind.to_string(), ack: ack.to_string(), figures, floor }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.figures.per_second
    }
}

/// Prints a table, and the same as a line of JSON for each row.
pub(crate) fn show(rows: &[Row]) {
    println!(
        "| server | ack | accepted/s | of the floor | drained/s | us CPU an event | p50 ms | p99 ms | RSS MiB | peak \
         MiB | syncs | 503 | errors |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for Row { server, ack, figures, floor } in rows {
        let Figures { per_second, drained_per_second, cpu_us, rss_mib, peak_mib, refused, errors, .. } =
            figures;
        let (ratio, syncs) =
            (per_second / floor, figures.syncs.map_or("-".into(), |syncs| syncs.to_string()));
        let [p50, p99] = [figures.p50_us, figures.p99_us].map(|us| us / 1e3);
        println!(
            "| {server} | {ack} | {per_second:.0} | {ratio:.2} | {drained_per_second:.0} | {cpu_us:.1} | {p50:.2} | \
             {p99:.2} | {rss_mib:.0} | {peak_mib:.0} | {syncs} | {refused} | {errors} |"
        );
    }
    for Row { server, ack, figures, floor } in rows {
        let line = json!({
            "server": server,
            "ack": ack,
            "accepted_per_second": figures.per_second,
            "to_floor": figures.per_second / floor,
            "drained_per_second": figures.drained_per_second,
            "cpu_us_per_event": figures.cpu_us,
            "p50_us": figures.p50_us,
            "p99_us": figures.p99_us,
            "rss_mib": figures.rss_mib,
            "peak_mib": figures.peak_mib,
            "syncs": figures.syncs,
            "refused": figures.refused,
            "errors": figures.errors,
        });
        println!("{line}");
    }
    // Whoever waits for a bus that is slower than what is offered hears 503; the journal takes what its sinks do not yet.
    let is_bad =
        |row: &&Row| row.figures.errors > 0 || (row.figures.refused > 0 && row.ack != Ack::Sinks.to_string());
    let bad = rows.iter().find(is_bad);
    assert!(bad.is_none(), "with errors the figures mean nothing: {bad:?}");
}
