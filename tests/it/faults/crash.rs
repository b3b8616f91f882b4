//! The bridge, or the broker, is killed under load at random instants, again and again: what was answered 200 arrives,
//! unchanged, in order, and at most one window of it twice for each crash.

use std::time::Duration;

use hookbus_brokers::{Kind, free_address};
use hookbus_tests::dice::Dice;
use tokio::time::{Instant, sleep};

use super::{
    account::{Account, Reading},
    crowd::{Broken, Crowd, Habits, Insists, Sent},
    stage::{Stage, durable},
};
use crate::support::{Ack, Bridge, PATIENCE, bus::Mark, in_company, number_of, say, text_of};

/// The events that a lane may have handed over at once: at most so many are there twice after a crash.
fn window(kind: Kind) -> usize {
    match kind {
        Kind::Redis => 2 * 1024,
        Kind::RabbitMq => 4 * 1000,
        Kind::Kafka => 4 * 2048,
    }
}

/// A crash comes within this time, once the load is there.
const WITHIN: Duration = Duration::from_millis(400);
/// Every so many times the bridge is killed this soon after its start, whatever it does then.
const YOUNG: u64 = 4;
const AT_THE_START: Duration = Duration::from_millis(40);
/// Requests answered 200 that show that there is load.
const LOADED: u64 = 20;

/// All clients insist, so that the order of what is accepted is known.
fn habits() -> Habits {
    let (insists, broken) = (Insists::Everybody, Broken::Expected);
    Habits {
        clients: number_of("HOOKBUS_TEST_CLIENTS", 16),
        subjects: 3,
        insists,
        broken,
        ..Habits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bridge_is_killed_again_and_again() {
    let kind = text_of("HOOKBUS_TEST_BUS").map_or(Kind::Redis, |name| name.parse().unwrap());
    let crashes = number_of("HOOKBUS_TEST_CRASHES", 10);
    let _in_company = in_company().await;
    let Some(mut play) = Play::begin(kind, "kill -9 of the bridge").await else { return };
    for crash in 1..=crashes {
        if crash % YOUNG == 0 {
            play.bridge.kill().await;
            play.bridge.start_again();
            sleep(play.dice.instant_within(AT_THE_START)).await;
        } else {
            play.crowd.accepted(LOADED).await;
            sleep(play.dice.instant_within(WITHIN)).await;
        }
        play.bridge.kill().await;
        play.bridge.start_again();
    }
    play.bridge.listens().await;
    // Those at the start are two.
    play.end(crashes + crashes / YOUNG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_killed_again_and_again() {
    let kind = text_of("HOOKBUS_TEST_BUS").map_or(Kind::Redis, |name| name.parse().unwrap());
    let crashes = number_of("HOOKBUS_TEST_CRASHES", 2);
    let _in_company = in_company().await;
    let Some(mut play) = Play::begin(kind, "kill -9 of the broker").await else { return };
    for _ in 0..crashes {
        play.crowd.accepted(LOADED).await;
        sleep(play.dice.instant_within(WITHIN)).await;
        play.stage.kill().await;
        sleep(play.dice.instant_within(WITHIN)).await;
        play.stage.restart().await;
    }
    play.crowd.accepted(LOADED).await;
    play.end(crashes).await;
}

/// A bridge under load.
struct Play {
    what: &'static str,
    stage: Stage,
    bridge: Bridge,
    crowd: Crowd,
    dice: Dice,
    begun: Instant,
}

impl Play {
    async fn begin(kind: Kind, what: &'static str) -> Option<Self> {
        let seed = text_of("HOOKBUS_TEST_SEED").map(|seed| seed.parse().unwrap());
        let dice = Dice::new(seed);
        say(&format!("crash: {kind}, {what}: seed {}", dice.seed()));
        let stage = Stage::start(kind, durable(kind)).await?;
        stage.make("good").await;
        // Where it listens is written down, so that it is found again.
        let listen = free_address().unwrap().to_string();
        let config = stage.config_at(&listen, Ack::usual(), "", &[("good", &stage.to("good"))]);
        let bridge = Bridge::start_with(&config).await;
        let crowd = Crowd::of(habits(), bridge.address(), "good");
        Some(Self { what, stage, bridge, crowd, dice, begun: Instant::now() })
    }

    /// Waits until everything has arrived, and compares.
    async fn end(self, crashes: u64) {
        let Self { what, stage, mut bridge, crowd, begun, .. } = self;
        let clients = crowd.len();
        let sent = crowd.disperse().await;
        let took = begun.elapsed();
        let (mut reading, mut mark) = (Reading::of(&sent), Mark::default());
        let late = Instant::now() + PATIENCE;
        loop {
            reading.enter_all(&stage, "good", &mut mark).await;
            let missing = reading.missing();
            if missing == 0 {
                break;
            }
            assert!(Instant::now() < late, "{missing} of {} events never arrive", sent.len());
            sleep(Duration::from_millis(50)).await;
        }
        // What is there twice may be on its way still.
        bridge.stop().await;
        reading.enter_all(&stage, "good", &mut mark).await;
        let account = reading.close(&sent).unwrap_or_else(|wrong| panic!("{wrong}"));
        say(&table(stage.kind, what, crashes, took, &sent, &account));
        // A client whose answer is cut off sends again, and without a journal nobody knows.
        let each = match Ack::usual() {
            Ack::Journal => window(stage.kind),
            Ack::Sinks => clients,
        };
        let most = each * usize::try_from(crashes).unwrap();
        assert!(account.duplicates <= most, "more duplicates than {most}: {account}");
        assert_eq!(account.given_up, 0, "all clients insist: {account}");
    }
}

/// The figures as a table.
fn table(kind: Kind, what: &str, crashes: u64, took: Duration, sent: &[Sent], account: &Account) -> String {
    let unanswered: u64 = sent.iter().map(|sent| sent.unanswered).sum();
    let Account { accepted, arrived, duplicates, refused, .. } = account;
    let (lost, seconds) = (sent.len() - arrived, took.as_secs_f64());
    format!(
        "| bus | what | ack | times | seconds | accepted | accepted minus arrived | changed | out of order | duplicates \
         | answered 503 | not answered |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n\
         | {kind} | {what} | {ack} | {crashes} | {seconds:.0} | {accepted} | {lost} | 0 | 0 | {duplicates} \
         | {refused} | {unanswered} |",
        ack = Ack::usual(),
    )
}
