//! An exchange of RabbitMQ with queues bound for half of the routing keys, and then for all.

use hookbus_brokers::Kind;

use super::{
    account::Account,
    crowd::Crowd,
    stage::{Stage, durable},
};
use crate::support::{Bridge, in_company};

/// Sources, each with a routing key of its own name.
const BOUND: [&str; 2] = ["bound-1", "bound-2"];
const UNBOUND: [&str; 2] = ["unbound-1", "unbound-2"];
/// Requests answered 503 for want of a queue, and 200 meanwhile and afterwards, for each key.
const REFUSED: u64 = 100;
const ACCEPTED: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_the_routing_keys_unbound_and_then_bound() {
    let _in_company = in_company().await;
    let Some(stage) = Stage::start(Kind::RabbitMq, durable(Kind::RabbitMq)).await else { return };
    let rabbit = stage.rabbit().await;
    rabbit.exchange("hooks").await;
    for key in BOUND {
        rabbit.queue(key).await;
        rabbit.bind(key, "hooks", key).await;
    }
    let keys = || BOUND.into_iter().chain(UNBOUND);
    let routes: Vec<_> =
        keys().map(|key| (key, format!("exchange = \"hooks\", routing-key = \"{key}\""))).collect();
    let routes: Vec<_> = routes.iter().map(|(key, to)| (*key, to.as_str())).collect();
    let mut bridge = Bridge::start_with(&stage.config("", &routes)).await;
    let crowds: Vec<_> = keys().map(|key| Crowd::gather(&bridge, key)).collect();
    let (bound, unbound) = crowds.split_at(BOUND.len());
    bridge.logged_times("address set aside", UNBOUND.len()).await;
    for crowd in unbound {
        crowd.refused(REFUSED).await;
    }
    for crowd in bound {
        crowd.accepted(ACCEPTED).await;
    }
    assert!(unbound.iter().all(|crowd| !crowd.any_accepted()), "no queue has them");

    for key in UNBOUND {
        rabbit.queue(key).await;
        rabbit.bind(key, "hooks", key).await;
    }
    bridge.logged_times("address is back", UNBOUND.len()).await;
    for crowd in unbound {
        crowd.accepted(ACCEPTED).await;
    }

    let mut sent = Vec::new();
    for crowd in crowds {
        sent.push(crowd.disperse().await);
    }
    bridge.stop().await;
    for (key, sent) in keys().zip(&sent) {
        let account = Account::balance(sent, &stage.read(key).await);
        account.show(&format!("rabbitmq {key}"), &[]);
        // Confirmed all the same, but returned before: a refusal that is certain.
        assert_eq!((account.duplicates, account.after_503), (0, 0), "{account}");
        assert_eq!(account.refused == 0, BOUND.contains(&key), "{account}");
    }
    for line in ["address set aside", "address is back"] {
        assert_eq!(bridge.times_logged(line), UNBOUND.len(), "{line}");
    }
    assert_eq!(bridge.times_logged("sink is down"), 0);
    assert!(bridge.dead_letters().is_empty(), "no event is at fault");
}
