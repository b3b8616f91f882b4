//! Events that the bus finds too large, among good ones.

use hookbus_brokers::{Kind, Options};

use super::{
    account::Account,
    crowd::{Crowd, Sent},
    stage::{Stage, durable},
};
use crate::support::{Bridge, in_company};

/// Events that are too large, and requests answered 200 between two of them.
const OVERSIZED: usize = 5;
const BETWEEN: u64 = 100;
/// What the bus takes, where it is told.
const LIMIT: usize = 64 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_short_strings() {
    let options = durable(Kind::Redis).set("proto-max-bulk-len", "1mb");
    // The least that Redis can be told.
    oversized(Kind::Redis, options, "", 1 << 20, "proto-max-bulk-len").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_kafka_with_short_batches() {
    oversized(Kind::Kafka, Options::default(), "", LIMIT, "max.message.bytes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rabbitmq_with_a_lower_limit_than_the_sink_knows() {
    let options = durable(Kind::RabbitMq).set("max_message_size", LIMIT.to_string());
    oversized(Kind::RabbitMq, options, "", LIMIT, "the broker's limit").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rabbitmq_with_the_limit_in_the_sink() {
    let keys = format!("max-message-size = \"{}KiB\"", LIMIT >> 10);
    oversized(Kind::RabbitMq, durable(Kind::RabbitMq), &keys, LIMIT, "the sink's limit").await;
}

async fn oversized(kind: Kind, options: Options, keys: &str, limit: usize, what: &str) {
    let _in_company = in_company().await;
    let Some(stage) = Stage::start(kind, options).await else { return };
    match kind {
        Kind::Kafka => stage.topic("good", &[("max.message.bytes", &limit.to_string())]).await,
        _ => stage.make("good").await,
    }
    let mut bridge = Bridge::start_with(&stage.config(keys, &[("good", &stage.to("good"))])).await;
    let crowd = Crowd::gather(&bridge, "good");
    let mut client = bridge.connect().await;
    let mut oversized = Vec::new();
    for _ in 0..OVERSIZED {
        crowd.accepted(BETWEEN).await;
        let sent = Sent::padded(limit);
        // It is safe where its reason is.
        assert_eq!(client.ask(&sent.request("good")).await.taken(), "accepted", "{}", bridge.log());
        oversized.push(sent);
    }
    crowd.accepted(BETWEEN).await;
    // What was in flight beside one of them.
    let most = OVERSIZED * crowd.len();
    let sent = crowd.disperse().await;
    bridge.stop().await;

    // None of the large ones among them: nobody of the crowd sent those.
    let account = Account::balance(&sent, &stage.read("good").await);
    account.show(&format!("{kind} oversized ({what}), {OVERSIZED} dead letters"), &[]);
    assert_eq!((account.refused, account.given_up), (0, 0), "the others are not to blame: {account}");
    account.at_most_in_flight(most);
    let letters = bridge.dead_letters();
    let letters = letters
        .iter()
        .map(|letter| (letter.reason.as_str(), letter.event.id.clone(), letter.event.body.clone()));
    let expected = oversized.iter().map(|sent| ("too-large", sent.id(), sent.body()));
    assert_eq!(letters.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!(bridge.times_logged("sink is down"), 0);
}
