//! One address of a bus takes no events, beside a good one, and is put right while the bridge runs.

use hookbus_brokers::Kind;

use super::{
    account::Account,
    crowd::Crowd,
    on_each_bus,
    stage::{Stage, durable},
};
use crate::support::{Bridge, in_company};

on_each_bus!(a_bad_address_costs_the_others_nothing_and_heals);

/// Requests answered 503 while the address is bad, and 200 at the good one meanwhile and at the other afterwards.
const REFUSED: u64 = 200;
const MEANWHILE: u64 = 300;
const AFTER: u64 = 200;

async fn a_bad_address_costs_the_others_nothing_and_heals(kind: Kind) {
    let _in_company = in_company().await;
    let Some(stage) = Stage::start(kind, durable(kind)).await else { return };
    stage.make("good").await;
    let bad = match kind {
        Kind::Redis => {
            stage.redis(&["SET", "bad", "not a stream"]).await;
            stage.to("bad")
        }
        Kind::RabbitMq => "exchange = \"missing\", routing-key = \"bad\"".to_owned(),
        Kind::Kafka => stage.to("bad"),
    };
    let mut bridge =
        Bridge::start_with(&stage.config("", &[("good", &stage.to("good")), ("bad", &bad)])).await;
    let (good, other) = (Crowd::gather(&bridge, "good"), Crowd::gather(&bridge, "bad"));
    bridge.logged("address set aside").await;
    other.refused(REFUSED).await;
    good.accepted(MEANWHILE).await;
    assert!(!other.any_accepted(), "its address is still bad");

    match kind {
        Kind::Redis => stage.redis(&["DEL", "bad"]).await,
        Kind::RabbitMq => {
            let rabbit = stage.rabbit().await;
            rabbit.exchange("missing").await;
            rabbit.queue("bad").await;
            rabbit.bind("bad", "missing", "bad").await;
        }
        Kind::Kafka => stage.make("bad").await,
    }
    bridge.logged("address is back").await;
    other.accepted(AFTER).await;

    let (good, other) = (good.disperse().await, other.disperse().await);
    bridge.stop().await;
    let account = Account::balance(&good, &stage.read("good").await);
    account.show(&format!("{kind} beside a bad address"), &[]);
    assert_eq!((account.refused, account.duplicates, account.after_503), (0, 0, 0), "{account}");
    let account = Account::balance(&other, &stage.read("bad").await);
    account.show(&format!("{kind} bad address"), &[]);
    assert_eq!((account.duplicates, account.after_503), (0, 0), "a refusal is certain: {account}");
    for line in ["address set aside", "address is back"] {
        assert_eq!(bridge.times_logged(line), 1, "{line}");
    }
    assert_eq!(bridge.times_logged("sink is down"), 0);
    assert!(bridge.dead_letters().is_empty(), "the address was at fault");
}
