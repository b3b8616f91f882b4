//! RabbitMQ is gone for a long time while Redis and Kafka go on: they notice nothing, and neither do the clients; when
//! it is back it gets what it missed, in order.

use std::time::{Duration, SystemTime};

use hookbus_brokers::Kind;
use hookbus_tests::load::Histogram;
use tokio::time::{Instant, sleep};

use super::{
    account::{Account, Reading},
    crowd::{Broken, Crowd, Habits, Insists, Sent},
    stage::{Stage, durable},
};
use crate::support::{Ack, Bridge, PATIENCE, bus::Mark, in_company, number_of, say};

/// The name of the topic, the queue and the stream.
const PLACE: &str = "isolation";
/// More clients than a bridge without a journal can have waiting for their answers at this rate.
const CLIENTS: u64 = 64;
/// Requests answered 200 before anything is measured.
const WARM: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_is_gone_costs_the_others_nothing() {
    if !Ack::is_journal("faults::isolation") {
        return;
    }
    let _in_company = in_company().await;
    let outage = Duration::from_secs(number_of("HOOKBUS_TEST_SECONDS", 2));
    let rate = number_of("HOOKBUS_TEST_RATE", 300);
    let Some(mut stages) = stages().await else { return };
    let mut bridge = Bridge::start_with(&config(&stages)).await;
    let habits = Habits {
        clients: CLIENTS,
        subjects: 4,
        pace: Duration::from_secs(CLIENTS) / u32::try_from(rate).unwrap(),
        insists: Insists::Everybody,
        broken: Broken::Failure,
        padding: 0,
    };
    let crowd = Crowd::of(habits, bridge.address(), "good");
    // What is made once is made by then.
    crowd.accepted(WARM).await;
    // Before, for comparison: a tenth of it.
    let begun = SystemTime::now();
    sleep((outage / 10).max(Duration::from_secs(1))).await;
    let [redis, kafka, rabbit] = &mut stages;
    let (cut, begins) = (SystemTime::now(), Instant::now());
    rabbit.kill().await;
    let down = bridge.logged("sink is down").await["fields"]["sink"].clone();
    sleep(outage.saturating_sub(begins.elapsed())).await;
    let waiting = crowd.count_accepted();
    // It is there again for clients before this returns.
    let back = SystemTime::now();
    rabbit.restart().await;
    let there = Instant::now();
    let caught_up = caught_up(rabbit, &crowd).await.duration_since(there);
    let caught_up_at = crowd.count_accepted();
    let refused = crowd.count_refused();
    let sent = crowd.disperse().await;

    let mut lags = Vec::new();
    for stage in [&*redis, &*kafka, &*rabbit] {
        let (account, arrivals) = settle(stage, &sent).await;
        assert_eq!((account.refused, account.given_up), (0, 0), "200 throughout: {account}");
        lags.push((stage.kind, account, Lags::of(&arrivals, [begun, cut, back])));
    }
    bridge.stop().await;
    assert_eq!(down, "rabbitmq");
    assert_eq!(bridge.times_logged("sink is down"), 1, "the others go on");

    let mut text = format!(
        "outage: RabbitMQ gone for {:.0} s at {rate} events/s offered: {} answered 200, {refused} answered 503; of \
         {waiting} accepted when it came back it had all {caught_up_at} accepted by then {:.1} s later, in order\n\
         | bus | accepted | arrived | duplicates | lag before, p50 / p99 ms | lag meanwhile, p50 / p99 ms |\n\
         |---|---|---|---|---|---|\n",
        outage.as_secs_f64(),
        sent.iter().filter(|sent| sent.accepted).count(),
        caught_up.as_secs_f64(),
    );
    for (kind, account, Lags { before, meanwhile }) in &lags {
        let Account { accepted, arrived, duplicates, .. } = account;
        let shown = |lag: &Histogram| match kind {
            // It keeps no times, and was not there.
            Kind::RabbitMq => "-".to_owned(),
            _ => format!("{} / {}", lag.quantile(0.5).as_millis(), lag.quantile(0.99).as_millis()),
        };
        text += &format!(
            "| {kind} | {accepted} | {arrived} | {duplicates} | {} | {} |\n",
            shown(before),
            shown(meanwhile)
        );
    }
    say(text.trim_end());
}

/// The three buses, RabbitMQ last; nothing, where one is not installed.
async fn stages() -> Option<[Stage; 3]> {
    let start = |kind| Stage::start(kind, durable(kind));
    let (redis, kafka, rabbit) = tokio::join!(start(Kind::Redis), start(Kind::Kafka), start(Kind::RabbitMq));
    let stages = [redis?, kafka?, rabbit?];
    let [redis, kafka, rabbit] = &stages;
    redis.make(PLACE).await;
    // Arrivals are timed by the broker, as on Redis.
    kafka.topic(PLACE, &[("message.timestamp.type", "LogAppendTime")]).await;
    rabbit.make(PLACE).await;
    Some(stages)
}

/// One route to all of them.
fn config(stages: &[Stage; 3]) -> String {
    let sinks: String = stages.iter().map(|stage| stage.sink(stage.kind.name(), "")).collect();
    let to =
        stages.each_ref().map(|stage| format!("{{ sink = \"{}\", {} }}", stage.kind.name(), stage.to(PLACE)));
    format!(
        r#"[server]
listen = "127.0.0.1:0"
limits = {{ connections-per-address = 1024 }}
[sources.good]
provider = "fastpix"
secrets = [{{ file = "fastpix.secret" }}]
ack = "{}"
{sinks}
[[routes]]
name = "all"
to = [{}]
"#,
        Ack::usual(),
        to.join(", ")
    )
}

/// Waits until the queue holds as many events as were accepted, within what is in flight; when that was.
async fn caught_up(rabbit: &Stage, crowd: &Crowd) -> Instant {
    let queue = rabbit.rabbit().await;
    // As long as it may take to catch up with days.
    let late = Instant::now() + 60 * PATIENCE;
    loop {
        // In this order: what is accepted in between is not counted.
        let accepted = crowd.count_accepted();
        if queue.count(PLACE).await as u64 + CLIENTS >= accepted {
            return Instant::now();
        }
        assert!(Instant::now() < late, "it does not catch up");
        sleep(Duration::from_millis(20)).await;
    }
}

/// An event that was answered, and when it was there by the clock of the bus.
type Arrival = (SystemTime, Option<SystemTime>);

/// Reads until everything is there; the account of it, and when the first copy of each came.
async fn settle(stage: &Stage, sent: &[Sent]) -> (Account, Vec<Arrival>) {
    let (mut reading, mut mark, mut arrivals) = (Reading::of(sent), Mark::default(), Vec::new());
    let late = Instant::now() + PATIENCE;
    loop {
        let page = stage.page(PLACE, &mut mark).await;
        for found in &page {
            let first = reading.enter(found).unwrap_or_else(|wrong| panic!("{}: {wrong}", stage.kind));
            arrivals.extend(first.and_then(|sent| Some((sent.answered?, found.at))));
        }
        if page.is_empty() {
            let missing = reading.missing();
            if missing == 0 {
                break;
            }
            assert!(Instant::now() < late, "{}: {missing} events never arrive", stage.kind);
            sleep(Duration::from_millis(50)).await;
        }
    }
    let account = reading.close(sent).unwrap_or_else(|wrong| panic!("{}: {wrong}", stage.kind));
    (account, arrivals)
}

/// How long after the answer events were there.
struct Lags {
    before: Histogram,
    meanwhile: Histogram,
}

impl Lags {
    /// Of those answered before the outage, and of those answered during it; the clocks of buses count milliseconds.
    fn of(arrivals: &[Arrival], [begun, cut, back]: [SystemTime; 3]) -> Self {
        let (mut before, mut meanwhile) = (Histogram::default(), Histogram::default());
        for (answered, arrived) in arrivals {
            let Some(arrived) = arrived else { continue };
            let lag = arrived.duration_since(*answered).unwrap_or_default();
            match () {
                () if (begun..cut).contains(answered) => before.record(lag),
                () if (cut..back).contains(answered) => meanwhile.record(lag),
                () => {}
            }
        }
        Self { before, meanwhile }
    }
}
