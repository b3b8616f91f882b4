//! The bridge in front of each bus, answering from its journal and from its sinks, beside a floor of the same run.
//!
//! Everything shares the cores of one machine: the load generator, the bridge, the broker. So a floor, a server that
//! does the least any receiver must, is driven before and after each figure, and what counts is the ratio to the mean
//! of the two.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, or fails")]

mod figures;
mod profile;
mod server;
#[path = "../../it/faults/stage.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use the rest")]
mod stage;
#[path = "../../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the end-to-end tests, which use the rest")]
mod support;

use std::{
    net::SocketAddr,
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use hookbus_brokers::{Kind, Options};
use hookbus_tests::load::{self, Events, Report, Settings, Shape};
use tokio::{task::block_in_place, time::sleep};

use self::{
    figures::{Figures, Row},
    profile::Profile,
    server::{Floor, Usage, syncs},
    stage::Stage,
    support::{Ack, Bridge, PATIENCE, Provider},
};

/// The most events that are prepared for a second of a closed loop: a run that needs more ends earlier.
const PER_SECOND: u64 = 80_000;
/// Where all events go.
const PLACE: &str = "bench";

/// Measures the bridge in front of each bus beside a floor of the same run.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each run lasts.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests a second, for the latencies.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// One bus only.
    #[arg(long)]
    bus: Option<Kind>,
    /// One way to answer only.
    #[arg(long)]
    ack: Option<Ack>,
    /// Sample where the bridge spends its time with `perf`, and leave a report for each row in this folder.
    #[arg(long)]
    profile: Option<PathBuf>,
    /// Cargo says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is sent to each server.
struct Load {
    connections: usize,
    duration: Duration,
    /// Events for a closed loop, and for the fixed rate.
    closed: Arc<Events>,
    open: Arc<Events>,
    rate: f64,
    profile: Option<PathBuf>,
}

fn main() {
    let Arguments { seconds, connections, rate, bus, ack, profile, .. } = Arguments::parse();
    let all = seconds * PER_SECOND;
    let load = Load {
        connections,
        duration: Duration::from_secs(seconds),
        closed: events(0..all),
        open: events(all..all + seconds * rate),
        rate: rate as f64,
        profile,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut rows = vec![Row::floor(floor(&load))];
    for kind in bus.map_or(Kind::ALL.to_vec(), |kind| vec![kind]) {
        for ack in ack.map_or(vec![Ack::Journal, Ack::Sinks], |ack| vec![ack]) {
            let Some(figures) = runtime.block_on(bridge(&load, kind, ack)) else { continue };
            let (before, after) = (rows.last().map_or(0.0, Row::per_second), floor(&load));
            rows.push(Row::bridge(kind, ack, figures, f64::midpoint(before, after.per_second)));
            rows.push(Row::floor(after));
        }
    }
    figures::show(&rows);
}

fn events(numbers: Range<u64>) -> Arc<Events> {
    let secret = Provider::FastPix.secret();
    let shape = Shape { host: "localhost", path: "/hooks/fastpix", secret: &secret };
    Arc::new(Events::range(numbers, shape).unwrap())
}

impl Load {
    /// Each connection sends when its last answer is in; events are sent once at most.
    fn closed(&self, target: SocketAddr) -> Report {
        self.run(target, &self.closed, None)
    }

    /// Requests fall due by the clock.
    fn open(&self, target: SocketAddr) -> Report {
        self.run(target, &self.open, Some(self.rate))
    }

    fn run(&self, target: SocketAddr, events: &Arc<Events>, per_second: Option<f64>) -> Report {
        let (connections, duration, count) = (self.connections, self.duration, Some(events.count() as u64));
        let settings = Settings { target, connections, threads: 1, duration, count, per_second };
        load::run(&settings, events).unwrap()
    }
}

/// Drives the floor: what it answers is done.
fn floor(load: &Load) -> Figures {
    let floor = Floor::start();
    let (before, begun) = (Usage::of(floor.pid()), Instant::now());
    let closed = load.closed(floor.address());
    let took = begun.elapsed();
    let usage = Usage::of(floor.pid());
    let open = load.open(floor.address());
    Figures::new(&closed, &open, took, usage.since(&before), None)
}

/// Drives a bridge in front of a broker of its own, which keeps what it likes: how fast that is on a disk is no matter
/// of ours. Nothing where the broker is not installed.
async fn bridge(load: &Load, kind: Kind, ack: Ack) -> Option<Figures> {
    let stage = Stage::start(kind, Options::default()).await?;
    stage.make(PLACE).await;
    let mut bridge = Bridge::start_with(&config(&stage, ack)).await;
    let (pid, address) = (bridge.pid(), bridge.address());
    let (before, begun) = (Usage::of(pid), Instant::now());
    let profile = load
        .profile
        .as_ref()
        .map(|folder| Profile::begin(folder, &format!("{kind}-{ack}"), pid, load.duration));
    let closed = block_in_place(|| load.closed(address));
    profile.into_iter().for_each(Profile::end);
    arrived(&stage, accepted(&closed)).await;
    let (drained, usage, synced) = (begun.elapsed(), Usage::of(pid), syncs(&mut bridge).await);
    let open = block_in_place(|| load.open(address));
    arrived(&stage, accepted(&closed) + accepted(&open)).await;
    bridge.stop().await;
    Some(Figures::new(&closed, &open, drained, usage.since(&before), synced))
}

/// Events that were answered 200.
fn accepted(report: &Report) -> u64 {
    report.statuses.get(&200).copied().unwrap_or_default()
}

/// Waits until so many events are on the bus.
async fn arrived(stage: &Stage, count: u64) {
    // A backlog of a run may take much longer than the run.
    let late = Instant::now() + 10 * PATIENCE;
    loop {
        let there = stage.count(PLACE).await;
        if there >= count {
            return;
        }
        assert!(Instant::now() < late, "{}: {there} of {count} events arrived", stage.kind);
        sleep(Duration::from_millis(20)).await;
    }
}

fn config(stage: &Stage, ack: Ack) -> String {
    let (sink, to) = (stage.sink("bus", ""), stage.to(PLACE));
    format!(
        r#"[server]
listen = "127.0.0.1:0"
limits = {{ connections = 4096, connections-per-address = 4096 }}
[admin]
listen = "127.0.0.1:0"
[sources.fastpix]
provider = "fastpix"
secrets = [{{ file = "fastpix.secret" }}]
ack = "{ack}"
ack-timeout = "30s"
{sink}
[[routes]]
name = "all"
to = [{{ sink = "bus", {to} }}]
"#
    )
}
