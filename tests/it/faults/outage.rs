//! The broker goes away under load and comes back: killed, stopped, frozen, or cut off.

use std::time::{Duration, Instant};

use hookbus_brokers::Kind;
use hookbus_testkit::Fault;
use tokio::time::sleep;

use super::{
    account::{Account, Outage},
    crowd::Crowd,
    on_each_bus,
    stage::{Stage, durable},
};
use crate::support::{Bridge, in_company, number_of};

on_each_bus!(kill_and_restart, stop_and_restart, down_at_the_start, freeze, cut_and_stall);

/// Requests answered 200 before an outage and after it.
const BEFORE: u64 = 300;
const AFTER: u64 = 300;
/// Requests answered 503 that show that there is one.
const REFUSED: u64 = 30;

/// How often everything is done.
fn rounds() -> u64 {
    number_of("HOOKBUS_TEST_OUTAGES", 1)
}

/// A bridge under load, and its outages so far.
struct Play {
    bridge: Bridge,
    crowd: Crowd,
    outages: Vec<Outage>,
}

impl Play {
    /// Begins with a broker that is there.
    async fn begin(stage: &Stage, keys: &str) -> Self {
        stage.make("good").await;
        let play = Self::gather(stage, keys).await;
        play.crowd.accepted(BEFORE).await;
        play
    }

    async fn gather(stage: &Stage, keys: &str) -> Self {
        let bridge = Bridge::start_with(&stage.config(keys, &[("good", &stage.to("good"))])).await;
        let crowd = Crowd::gather(&bridge, "good");
        Self { bridge, crowd, outages: Vec::new() }
    }

    /// Waits until the bridge says that the sink is down, for the next time.
    async fn down(&mut self) -> Instant {
        self.bridge.logged_times("sink is down", self.outages.len() + 1).await;
        Instant::now()
    }

    /// Waits until it says that the sink is back, which its broker is from now on, and until that is so.
    async fn back(&mut self, down: Instant) {
        let there = Instant::now();
        self.bridge.logged_times("sink is back", self.outages.len() + 1).await;
        self.outages.push(Outage { down: down.elapsed(), after: there.elapsed() });
        self.crowd.accepted(AFTER).await;
    }

    /// Ends it, and compares. Each outage was logged once.
    async fn end(mut self, stage: &Stage, what: &str) {
        // Each client has one event in flight when an outage begins; what it sends then finds the batches that may be
        // in flight under way, or the lane paused. That is far less than the window.
        let most = self.outages.len() * self.crowd.len();
        let sent = self.crowd.disperse().await;
        self.bridge.stop().await;
        let account = Account::balance(&sent, &stage.read("good").await);
        account.show(&format!("{} {what}", stage.kind), &self.outages);
        let outages = self.outages.len();
        for line in ["sink is down", "sink is back"] {
            assert_eq!(self.bridge.times_logged(line), outages, "{line}");
        }
        assert!(account.refused >= REFUSED, "{account}");
        account.at_most_in_flight(most);
        assert!(self.bridge.dead_letters().is_empty(), "an outage is no event's fault");
    }
}

async fn kill_and_restart(kind: Kind) {
    let _in_company = in_company().await;
    let Some(mut stage) = Stage::start(kind, durable(kind)).await else { return };
    let mut play = Play::begin(&stage, "").await;
    for _ in 0..rounds() {
        stage.kill().await;
        let down = play.down().await;
        play.crowd.refused(REFUSED).await;
        stage.restart().await;
        play.back(down).await;
    }
    play.end(&stage, "kill -9").await;
}

/// Killed before the bridge starts, and there again only when it has been asked for events.
async fn down_at_the_start(kind: Kind) {
    let _in_company = in_company().await;
    let Some(mut stage) = Stage::start(kind, durable(kind)).await else { return };
    stage.make("good").await;
    stage.kill().await;
    let mut play = Play::gather(&stage, "").await;
    let down = play.down().await;
    play.crowd.refused(REFUSED).await;
    stage.restart().await;
    play.back(down).await;
    play.end(&stage, "down at the start").await;
}

async fn stop_and_restart(kind: Kind) {
    let _in_company = in_company().await;
    let Some(mut stage) = Stage::start(kind, durable(kind)).await else { return };
    let mut play = Play::begin(&stage, "").await;
    for _ in 0..rounds() {
        let ((), down) = tokio::join!(stage.stop(), play.down());
        play.crowd.refused(REFUSED).await;
        stage.restart().await;
        play.back(down).await;
    }
    play.end(&stage, "orderly restart").await;
}

async fn freeze(kind: Kind) {
    let _in_company = in_company().await;
    let Some(stage) = Stage::start(kind, durable(kind)).await else { return };
    let mut play = Play::begin(&stage, "").await;
    for _ in 0..rounds() {
        stage.pause();
        // Longer than requests wait and a publish may take, so that the next try meets it too.
        let ((), down) = tokio::join!(sleep(Duration::from_secs(10)), play.down());
        stage.resume();
        play.back(down).await;
    }
    play.end(&stage, "frozen for 10 s").await;
}

/// With a short `publish-timeout`: silence is noticed by that alone.
async fn cut_and_stall(kind: Kind) {
    let _in_company = in_company().await;
    let Some(stage) = Stage::start_behind_proxy(kind).await else { return };
    let mut play = Play::begin(&stage, "publish-timeout = \"1s\"").await;
    for _ in 0..rounds() {
        for fault in [Fault::Cut, Fault::Stall, Fault::LoseAnswers] {
            stage.proxy().inject(fault);
            let down = play.down().await;
            play.crowd.refused(REFUSED).await;
            stage.proxy().restore();
            play.back(down).await;
        }
    }
    play.end(&stage, "cut, stalled, answers lost").await;
}
