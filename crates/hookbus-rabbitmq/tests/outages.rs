//! Brokers that have limits, alarms, and ends; each is started for the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rabbit;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hookbus_brokers::{Broker, Kind, Options, private};
use hookbus_core::{Address, Batch, Envelope, ErrorKind, Instant, Outcome, Probe, Report, RetryClass, Sink};
use hookbus_testkit::TestEvent;
use rabbit::{PATIENCE, Rabbit, event, publish, sink, soon, to_queue, word, words};
use tokio::task::block_in_place;

fn start(options: &Options) -> Option<Broker> {
    block_in_place(|| private(Kind::RabbitMq, options))
}

/// Publishes until everything is delivered or rejected, like a lane does. Returns the outcomes that came last.
async fn deliver(sink: &dyn Sink, envelopes: Vec<Envelope>) -> Vec<Outcome> {
    let report = Report::new(envelopes.len());
    // Long enough for a broker to be killed, started and filled again, on a machine that has other things to do.
    let until = soon() + 2 * PATIENCE;
    loop {
        let open: Vec<_> = (0..envelopes.len()).filter(|at| report.get(*at).is_none()).collect();
        if open.is_empty() {
            return report.outcomes().collect();
        }
        assert!(Instant::now() < until, "{} events are left", open.len());
        let batch = open.iter().map(|at| envelopes[*at].clone()).collect();
        let outcomes = publish(sink, batch, Instant::now() + Duration::from_secs(10)).await;
        for (at, outcome) in open.into_iter().zip(outcomes) {
            if !matches!(outcome, Outcome::Retry { .. }) {
                report.set(at, outcome);
            }
        }
        // A lane would wait longer. Without any wait the tries would keep the broker from coming up.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The broker's limit is lower than ours, so that a large message closes its channel: it alone is rejected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_brokers_limit_is_rejected_alone() {
    let Some(broker) = start(&Options::default().set("max_message_size", "65536")) else { return };
    let rabbit = Rabbit::at(broker.url()).await;
    let sink: Arc<dyn Sink> = sink(&format!("url = 'amqp://{}'", broker.address())).await.into();
    rabbit.queue("all").await;
    let envelope = |call: usize, n: usize| {
        let length = if n % 50 == 20 { 65_537 } else { 1000 };
        Envelope::new(
            TestEvent::new("fastpix").id(format!("{call}-{n}")).length(length).build(),
            to_queue("all"),
        )
    };
    let calls = (0..4).map(|call| {
        let sink = Arc::clone(&sink);
        tokio::spawn(
            async move { publish(&*sink, (0..200).map(|n| envelope(call, n)).collect(), soon()).await },
        )
    });
    for call in calls.collect::<Vec<_>>() {
        for (n, outcome) in call.await.unwrap().iter().enumerate() {
            let expected = if n % 50 == 20 { "rejected too-large" } else { "delivered" };
            assert_eq!(word(outcome), expected, "event {n}: {outcome:?}");
        }
    }
    assert_eq!(rabbit.count("all").await.len(), 4 * 196);
    // What is exactly as large as the limit is taken.
    let exact = TestEvent::new("fastpix").id("exact").length(65_536).build();
    let outcomes = publish(&*sink, vec![Envelope::new(exact, to_queue("all"))], soon()).await;
    assert_eq!(words(&outcomes), ["delivered"]);
    // A subject that does not fit into the frame of the properties would close the connection.
    let subject = TestEvent::new("fastpix").id("subject").subject("s".repeat(200_000)).build();
    let envelopes = vec![event("before", &to_queue("all")), Envelope::new(subject, to_queue("all"))];
    let outcomes = publish(&*sink, envelopes, soon()).await;
    assert_eq!(words(&outcomes), ["delivered", "rejected too-large"]);
}

/// No memory: publishes and probes say so at once, and go on when it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_is_heard() {
    let Some(broker) = start(&Options::default()) else { return };
    let rabbit = Rabbit::at(broker.url()).await;
    let sink = sink(&format!("url = 'amqp://{}'", broker.address())).await;
    rabbit.queue("all").await;
    let (address, ctl) =
        (to_queue("all"), |arguments: &[&str]| block_in_place(|| broker.rabbitmqctl(arguments).unwrap()));
    let batch = |name: &str| (0..1000).map(|n| event(format!("{name}-{n}"), &address)).collect::<Vec<_>>();
    assert!(
        publish(&*sink, batch("before"), soon()).await.iter().all(|outcome| word(outcome) == "delivered")
    );
    ctl(&["set_vm_memory_high_watermark", "0"]);
    let begun = Instant::now();
    let outcomes = publish(&*sink, batch("during"), soon()).await;
    let told: Vec<_> = outcomes.iter().filter(|outcome| word(outcome) != "delivered").collect();
    assert!(told.len() > 500 && told.iter().all(|outcome| word(outcome).ends_with("overloaded")), "{told:?}");
    let Outcome::Retry { error, .. } = told[0] else { panic!("{told:?}") };
    assert!(error.message().contains("memory"), "{error}");
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    let again = publish(&*sink, batch("during"), soon()).await;
    assert!(
        again.iter().all(|outcome| word(outcome) == "retry overloaded"),
        "nothing was sent: {:?}",
        again[0]
    );
    let probe = sink.probe(Probe::Sink, soon()).await.unwrap_err();
    assert_eq!(probe.kind(), ErrorKind::Overloaded);
    ctl(&["set_vm_memory_high_watermark", "0.4"]);
    let until = soon();
    while let Err(error) = sink.probe(Probe::Sink, until).await {
        assert!(Instant::now() < until, "the alarm is over, but {error}");
        tokio::task::yield_now().await;
    }
    let outcomes = deliver(&*sink, batch("during")).await;
    assert!(outcomes.iter().all(|outcome| word(outcome) == "delivered"));
    let there = rabbit.count("all").await;
    let arrived = |name| (0..1000).filter(|n| there.contains_key(&format!("{name}-{n}"))).count();
    assert_eq!((arrived("before"), arrived("during")), (1000, 1000));
    let twice = there.values().sum::<usize>() - 2000;
    eprintln!("{twice} duplicates after the alarm");
    assert!(twice <= 1000, "{twice}: more than one window");
}

/// Killed and started again under load; the first node of the list was never there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_is_found_again() {
    let Some(mut broker) = start(&Options::default()) else { return };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sink = sink(&format!("url = ['amqp://{nobody}', 'amqp://{}']", broker.address())).await;
    let sink: Arc<dyn Sink> = sink.into();
    let rabbit = Rabbit::at(broker.url()).await;
    rabbit.queue("all").await;
    drop(rabbit);
    let address: Address = to_queue("all");
    let (delivered, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let lanes = (0..4).map(|lane| {
        let (sink, address) = (Arc::clone(&sink), address.clone());
        let (delivered, stop) = (Arc::clone(&delivered), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut batch = 0;
            while !stop.load(Relaxed) {
                let envelopes = (0..250).map(|n| event(format!("{lane}-{batch}-{n}"), &address));
                let outcomes = deliver(&*sink, envelopes.collect()).await;
                assert!(outcomes.iter().all(|outcome| word(outcome) == "delivered"));
                delivered.fetch_add(outcomes.len(), Relaxed);
                batch += 1;
            }
        })
    });
    let lanes: Vec<_> = lanes.collect();
    let more = async |count: usize| {
        let (until, goal) = (soon() + 2 * PATIENCE, delivered.load(Relaxed) + count);
        while delivered.load(Relaxed) < goal {
            assert!(Instant::now() < until, "nothing is delivered any more");
            tokio::task::yield_now().await;
        }
    };
    for _ in 0..2 {
        more(3000).await;
        block_in_place(|| {
            broker.kill().unwrap();
            broker.restart().unwrap();
        });
    }
    more(3000).await;
    stop.store(true, Relaxed);
    for lane in lanes {
        lane.await.unwrap();
    }
    let (there, accepted) = (Rabbit::at(broker.url()).await.count("all").await, delivered.load(Relaxed));
    assert_eq!(there.len(), accepted, "accepted minus arrived");
    let twice = there.values().sum::<usize>() - accepted;
    eprintln!("{accepted} accepted, {twice} of them twice after two kills");
    assert!(twice <= 2 * 1000, "{twice}: more than a window for each kill");
    // A frozen broker: the deadline holds, and nothing is claimed.
    block_in_place(|| broker.pause().unwrap());
    let begun = Instant::now();
    let outcomes = publish(&*sink, vec![event("frozen", &address)], begun + Duration::from_secs(2)).await;
    assert_eq!(words(&outcomes), ["maybe timeout"]);
    assert!(begun.elapsed() < PATIENCE / 2);
    let probe = sink.probe(Probe::Sink, Instant::now() + Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(probe.retry_class(), RetryClass::Sink, "{probe}");
    block_in_place(|| broker.resume().unwrap());
    deliver(&*sink, vec![event("thawed", &address)]).await;
    sink.close(soon()).await.unwrap();
    let report = Report::new(1);
    sink.publish(&Batch::new(vec![event("late", &address)]), &report, soon()).await;
    assert_eq!(word(report.get(0).unwrap()), "retry closed");
}

/// TLS with certificates of our own, in both directions.
#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_trusts_whom_it_is_told_to() {
    let required = Options::secured().set("ssl_options.fail_if_no_peer_cert", "true");
    let Some(broker) = start(&required) else { return };
    let files = broker.certificates().unwrap();
    let rabbit = Rabbit::at(broker.url()).await;
    rabbit.queue("all").await;
    let url = format!(
        "amqps://localhost:{}",
        broker.endpoint(hookbus_brokers::Access::Tls).unwrap().address.port()
    );
    let (ca, cert, key) = (files.ca.display(), files.client_cert.display(), files.client_key.display());
    let both = format!("tls = {{ ca = '{ca}', cert = '{cert}', key = {{ file = '{key}' }} }}");
    let trusted = sink(&format!("url = '{url}'\n{both}")).await;
    let outcomes = publish(&*trusted, vec![event("e", &to_queue("all"))], soon()).await;
    assert_eq!(words(&outcomes), ["delivered"], "{outcomes:?}");
    assert_eq!(rabbit.count("all").await.len(), 1);
    for (keys, why) in [
        (format!("url = '{url}'"), "a certificate nobody told it of"),
        (format!("url = '{url}'\ntls = {{ ca = '{ca}' }}"), "the broker wants a certificate of ours"),
    ] {
        let error = sink(&keys).await.probe(Probe::Sink, soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{why}: {error}");
    }
    let gone = sink(&format!("url = '{url}'\ntls = {{ ca = '/no/such/file' }}")).await;
    let error = gone.probe(Probe::Sink, soon()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Auth && error.message().contains("/no/such/file"), "{error}");
}
