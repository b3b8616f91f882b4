//! Addresses that are missing, forbidden, or go away: each is charged to the right events, and to no other.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rabbit;

use std::{collections::BTreeMap, sync::Arc};

use hookbus_brokers::{Contact, Kind, shared};
use hookbus_core::{Address, Batch, Envelope, ErrorKind, Instant, Outcome, Probe, Report, Sink};
use hookbus_testkit::TestEvent;
use lapin::{
    ExchangeKind,
    types::{AMQPValue, FieldTable},
};
use rabbit::{Rabbit, event, publish, sink, soon, to_exchange, to_queue, word, words};

async fn shared_broker() -> Option<(Contact, Rabbit, Box<dyn Sink>)> {
    let broker = tokio::task::spawn_blocking(|| shared(Kind::RabbitMq)).await.unwrap()?;
    let rabbit = Rabbit::at(broker.url()).await;
    let sink = sink(&format!("url = 'amqp://{}/%2f'", broker.address())).await;
    Some((broker, rabbit, sink))
}

/// Several calls at once on one connection, each a wild mixture of messages that are returned and messages that are
/// not, some of them each other's twins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returned_messages_are_charged_to_the_right_events() {
    let Some((_, rabbit, sink)) = shared_broker().await else { return };
    let (queue, missing) = (rabbit.name("there"), rabbit.name("missing"));
    let (fanout, key) = (rabbit.name("fanout"), rabbit.name("key"));
    rabbit.queue(&queue).await;
    rabbit.exchange(&fanout, ExchangeKind::Direct).await;
    rabbit.bind(&queue, &fanout, &key).await;
    // By turns: to the queue, to no queue, through an exchange that routes this key, and one that routes it nowhere.
    let addresses =
        [to_queue(&queue), to_queue(&missing), to_exchange(&fanout, &key), to_exchange(&fanout, &missing)];
    let is_good = |n: usize| n.is_multiple_of(2);
    let sink: Arc<dyn Sink> = sink.into();
    for round in 0..5 {
        let calls = (0..4).map(|call| {
            let (sink, addresses) = (Arc::clone(&sink), addresses.clone());
            tokio::spawn(async move {
                // Every id is used for four addresses and for two sources, so only all of a message tells which it is.
                let envelope = |n: usize| {
                    let source = if n % 8 < 4 { "fastpix" } else { "fastgen" };
                    let id = format!("{round}-{call}-{}", n / 8);
                    Envelope::new(TestEvent::new(source).id(id).build(), addresses[n % 4].clone())
                };
                words(&publish(&*sink, (0..800).map(envelope).collect(), soon()).await)
            })
        });
        for call in calls.collect::<Vec<_>>() {
            for (n, outcome) in call.await.unwrap().iter().enumerate() {
                let expected = if is_good(n) { "delivered" } else { "retry unroutable" };
                assert_eq!(outcome, expected, "event {n} of round {round}");
            }
        }
        let there = rabbit.take(&queue).await;
        assert_eq!(there.len(), 4 * 400, "what was delivered is there once");
        let mut count: BTreeMap<_, usize> = BTreeMap::new();
        for observed in &there {
            *count.entry((observed.id(), &observed.attributes["source"])).or_default() += 1;
        }
        assert!(count.len() == 4 * 200 && count.values().all(|count| *count == 2), "each by both ways");
    }
    rabbit.delete_queue(&queue).await;
    rabbit.delete_exchange(&fanout).await;
}

/// An exchange is deleted while events for it and for others are on their way; the others do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_exchange_costs_the_others_nothing() {
    let Some((_, rabbit, sink)) = shared_broker().await else { return };
    let [safe, doomed] = ["safe", "doomed"].map(|name| rabbit.name(name));
    for name in [&safe, &doomed] {
        rabbit.queue(name).await;
        rabbit.exchange(name, ExchangeKind::Fanout).await;
        rabbit.bind(name, name, "").await;
    }
    let sink: Arc<dyn Sink> = sink.into();
    let addresses = [to_exchange(&safe, "key"), to_exchange(&doomed, "key")];
    let batch = |from: usize| {
        let envelopes = (0..200).map(|n| event(format!("e{}", from + n), &addresses[n % 2]));
        envelopes.collect::<Vec<_>>()
    };
    let (mut outcomes, mut next) = (Vec::new(), 0);
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let delete = async {
        // Once something has arrived, so that it happens in the middle.
        let until = soon();
        while rabbit.length(&doomed).await == 0 {
            assert!(Instant::now() < until, "nothing arrives");
        }
        rabbit.delete_exchange(&doomed).await;
        stop.send(()).unwrap();
    };
    let publishing = async {
        loop {
            let calls = (0..4).map(|call| {
                let (sink, envelopes) = (Arc::clone(&sink), batch(next + call * 200));
                tokio::spawn(async move { publish(&*sink, envelopes, soon()).await })
            });
            for call in calls.collect::<Vec<_>>() {
                outcomes.extend(call.await.unwrap());
            }
            next += 800;
            if stopped.try_recv().is_ok() {
                return;
            }
        }
    };
    tokio::join!(delete, publishing);
    outcomes.extend(publish(&*sink, batch(next), soon()).await);
    let (mut again, mut doomed_words) = (Vec::new(), BTreeMap::<String, usize>::new());
    for (n, outcome) in outcomes.iter().enumerate() {
        let word = word(outcome);
        match (n.is_multiple_of(2), word.as_str()) {
            (false, _) => *doomed_words.entry(word).or_default() += 1,
            // Where the driver loses the connection over a channel that was just closed, what was under way is unknown
            // and the rest was not sent: a lane sends both again.
            (true, "maybe unavailable" | "retry unavailable") => {
                again.push(event(format!("e{n}"), &addresses[0]));
            }
            (true, word) => assert_eq!(word, "delivered", "event {n}: {outcome:?}"),
        }
    }
    assert_eq!(words(&publish(&*sink, again.clone(), soon()).await), vec!["delivered"; again.len()]);
    let there = rabbit.count(&safe).await;
    for n in (0..outcomes.len()).step_by(2) {
        assert!(there.contains_key(&format!("e{n}")), "event {n} is lost");
    }
    let known =
        ["delivered", "retry unroutable", "maybe unroutable", "maybe unavailable", "retry unavailable"];
    assert!(doomed_words.keys().all(|word| known.contains(&word.as_str())), "{doomed_words:?}");
    assert!(doomed_words["retry unroutable"] >= 100, "{doomed_words:?}");
    // It comes back, and a probe says when.
    let address = &addresses[1];
    let missing = sink.probe(Probe::Address(address), soon()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Unroutable);
    rabbit.exchange(&doomed, ExchangeKind::Fanout).await;
    sink.probe(Probe::Address(address), soon()).await.unwrap();
    for name in [&safe, &doomed] {
        rabbit.delete_queue(name).await;
        rabbit.delete_exchange(name).await;
    }
}

/// A user who may not write to an exchange, a user who is not let in, and a virtual host that is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forbidden_is_said_of_the_right_thing() {
    let Some((broker, rabbit, _)) = shared_broker().await else { return };
    let (queue, closed) = (rabbit.name("open"), rabbit.name("closed"));
    let (user, password) = (rabbit.name("user"), "not-a-password-that-may-be-shown");
    let ctl = |arguments: &[&str]| tokio::task::block_in_place(|| broker.rabbitmqctl(arguments));
    if let Err(error) = ctl(&["add_user", &user, password]) {
        eprintln!("skipped: no user can be made here: {error}");
        return;
    }
    ctl(&["set_permissions", &user, "", "^amq\\.default$", ""]).unwrap();
    rabbit.queue(&queue).await;
    rabbit.exchange(&closed, ExchangeKind::Fanout).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let with = async |url: &str, secret: &str| {
        std::fs::write(&file, secret).unwrap();
        let (address, file) = (broker.address(), file.display());
        sink(&format!("url='amqp://{address}/{url}'\nusername='{user}'\npassword={{ file = '{file}' }}"))
            .await
    };

    let sink = with("%2f", password).await;
    let addresses = [to_queue(&queue), to_exchange(&closed, "key")];
    let envelopes: Vec<_> = (0..100).map(|n| event(format!("e{n}"), &addresses[n % 2])).collect();
    for (n, outcome) in words(&publish(&*sink, envelopes, soon()).await).iter().enumerate() {
        // All of a batch had been sent when its channel was closed.
        let expected: &[&str] =
            if n.is_multiple_of(2) { &["delivered"] } else { &["maybe unroutable", "retry unroutable"] };
        assert!(expected.contains(&outcome.as_str()), "event {n}: {outcome}");
    }
    let alone = publish(&*sink, vec![event("alone", &addresses[1])], soon()).await;
    assert_eq!(words(&alone), ["retry unroutable"], "with one event it is certain");
    assert_eq!(rabbit.count(&queue).await.len(), 50);

    let refused = with("%2f", "wrong").await;
    let outcomes = publish(&*refused, vec![event("e", &addresses[0])], soon()).await;
    assert_eq!(words(&outcomes), ["retry auth"]);
    let error = refused.probe(Probe::Sink, soon()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Auth && error.to_string().contains("ACCESS_REFUSED"), "{error}");
    // The password is read at each connect.
    std::fs::write(&file, password).unwrap();
    refused.probe(Probe::Sink, soon()).await.unwrap();

    let nowhere = with("no-such-host", password).await;
    let error = nowhere.probe(Probe::Sink, soon()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Auth && error.to_string().contains("NOT_ALLOWED"), "{error}");
    let Outcome::Retry { error, .. } = &publish(&*nowhere, vec![event("e", &addresses[0])], soon()).await[0]
    else {
        panic!("nothing can be delivered there")
    };
    assert!(!format!("{error} {error:?} {nowhere:?}").contains(password));
    ctl(&["delete_user", &user]).unwrap();
    rabbit.delete_queue(&queue).await;
    rabbit.delete_exchange(&closed).await;
}

/// A queue that is full refuses, which is the broker's way to ask for less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_asks_for_less() {
    let Some((_, rabbit, sink)) = shared_broker().await else { return };
    let (queue, mut arguments) = (rabbit.name("full"), FieldTable::default());
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(10));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    rabbit.queue_with(&queue, arguments).await;
    let envelopes = (0..100).map(|n| event(format!("e{n}"), &to_queue(&queue))).collect();
    let outcomes = words(&publish(&*sink, envelopes, soon()).await);
    let (there, delivered) =
        (rabbit.count(&queue).await, outcomes.iter().filter(|word| *word == "delivered"));
    assert_eq!(there.len(), delivered.count());
    assert!(outcomes.iter().any(|word| word == "maybe overloaded"), "{outcomes:?}");
    rabbit.delete_queue(&queue).await;
}

/// Dropped at any point: what was confirmed stands, nothing that is said to be delivered is missing, and the same sink
/// goes on at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_dropped_beside_others_cost_them_nothing() {
    let Some((_, rabbit, sink)) = shared_broker().await else { return };
    let queue = rabbit.name("dropped");
    rabbit.queue(&queue).await;
    let address: &Address = &to_queue(&queue);
    let batch = |name: String, count: usize| {
        Batch::new((0..count).map(|n| event(format!("{name}-{n}"), address)).collect::<Vec<_>>())
    };
    for round in 0..20 {
        let (dropped, steady) =
            (batch(format!("dropped-{round}"), 300), batch(format!("steady-{round}"), 300));
        let (first, second) = (Report::new(300), Report::new(300));
        let some = async {
            while first.get(round * 10).is_none() {
                tokio::task::yield_now().await;
            }
        };
        let dropping = async {
            tokio::select! {
                () = some => {}
                () = sink.publish(&dropped, &first, soon()) => {}
            }
        };
        tokio::join!(dropping, sink.publish(&steady, &second, soon()));
        assert!(second.outcomes().all(|outcome| word(&outcome) == "delivered"), "round {round}: {second:?}");
        let there = rabbit.count(&queue).await;
        assert!((0..300).all(|n| there.contains_key(&format!("steady-{round}-{n}"))));
        for (n, outcome) in first.outcomes().enumerate() {
            let found = there.contains_key(&format!("dropped-{round}-{n}"));
            assert!(found || word(&outcome) != "delivered", "round {round}, event {n}");
        }
    }
    rabbit.delete_queue(&queue).await;
}
