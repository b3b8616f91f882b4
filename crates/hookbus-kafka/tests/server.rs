//! What differs from cluster to cluster: logins, TLS, topics and their settings.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path, process, time::Duration};

use hookbus_brokers::{Access, Contact, Kind, PASSWORD, USER, shared};
use hookbus_core::{Batch, Envelope, ErrorKind, Instant, Outcome, Probe, Report, RetryClass, Sink};
use hookbus_kafka::Kafka;
use hookbus_testkit::{TestEvent, address, connect};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn admin(kafka: &Contact) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", kafka.url()).create().unwrap()
}

/// A new topic with these settings.
async fn topic(kafka: &Contact, name: &str, settings: &[(&str, &str)]) -> String {
    let name = format!("server-{}-{name}", process::id());
    create(kafka, &name, settings).await;
    name
}

async fn create(kafka: &Contact, name: &str, settings: &[(&str, &str)]) {
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let made = admin(kafka).create_topics(&[topic], &AdminOptions::new()).await.unwrap();
    made[0].as_ref().unwrap();
}

fn event(id: &str, topic: &str, key: Option<&str>) -> Envelope {
    let event = TestEvent::new("fastpix").id(id);
    let keys = [("topic", topic), ("key", key.unwrap_or("{body:/nothing}"))];
    Envelope::new(event.build(), address::<Kafka>(&keys))
}

async fn publish(sink: &dyn Sink, envelopes: &[Envelope], patience: Duration) -> Vec<Outcome> {
    let report = Report::new(envelopes.len());
    sink.publish(&Batch::new(envelopes), &report, Instant::now() + patience).await;
    report.outcomes().collect()
}

/// An outcome in a word: what it is, and of what kind.
fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered { .. } => "delivered".into(),
        Outcome::Retry { error, maybe_delivered: true, .. } => format!("maybe {}", error.kind().as_str()),
        Outcome::Retry { error, .. } => error.kind().as_str().into(),
        Outcome::Rejected { error, .. } => format!("rejected {}", error.kind().as_str()),
        _ => "unknown".into(),
    }
}

async fn words(sink: &dyn Sink, envelopes: &[Envelope]) -> Vec<String> {
    publish(sink, envelopes, PATIENCE).await.iter().map(word).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_shorter_than_the_batch_is_waited_for() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let topic = topic(&kafka, "queue", &[]).await;
    let options = "options = { \"queue.buffering.max.messages\" = 10 }";
    let sink = connect::<Kafka>(&format!("brokers = [\"{}\"]\n{options}", kafka.url())).await;
    let events: Vec<_> = (0..200).map(|n| event(&format!("e{n}"), &topic, Some("k"))).collect();
    let outcomes = publish(&*sink, &events, PATIENCE).await;
    let lost = outcomes.iter().find(|outcome| word(outcome) != "delivered");
    assert!(lost.is_none(), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_compacted_topic_does_not_take_is_refused_alone() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let topic = topic(&kafka, "compacted", &[("cleanup.policy", "compact")]).await;
    let sink = connect::<Kafka>(&format!("brokers = [\"{}\"]", kafka.url())).await;
    let events = [event("a", &topic, Some("k")), event("b", &topic, None), event("c", &topic, Some("k"))];
    assert_eq!(words(&*sink, &events).await, ["delivered", "rejected invalid-event", "delivered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_refused_names_its_culprit_in_the_end() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let topic = topic(&kafka, "lowered", &[("max.message.bytes", "65536")]).await;
    let sink = connect::<Kafka>(&format!("brokers = [\"{}\"]", kafka.url())).await;
    assert_eq!(words(&*sink, &[event("first", &topic, Some("k"))]).await, ["delivered"]);
    // The limit sinks below what the sink has learnt: whole batches are refused, for one large event and for many
    // small ones.
    let lower = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", "4000");
    admin(&kafka).alter_configs([&lower], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let large = |n: u32| n % 10 == 5;
    let events = (0..20).map(|n| {
        let event = TestEvent::new("fastpix").id(format!("e{n}")).length(if large(n) { 8000 } else { 500 });
        Envelope::new(event.build(), address::<Kafka>(&[("topic", &topic), ("key", "k")]))
    });
    // As a lane does: what is unresolved goes again, in order.
    let (mut left, until) = (events.collect::<Vec<_>>(), Instant::now() + PATIENCE);
    let mut rejected = Vec::new();
    while !left.is_empty() {
        assert!(Instant::now() < until, "{left:?}");
        let outcomes = publish(&*sink, &left, PATIENCE).await;
        let said: Vec<_> = left.into_iter().zip(outcomes).collect();
        left = Vec::new();
        for (envelope, outcome) in said {
            match &outcome {
                Outcome::Delivered { .. } => {}
                Outcome::Rejected { error, .. } => {
                    assert_eq!(error.kind(), ErrorKind::TooLarge);
                    rejected.push(envelope.event.id().to_string());
                }
                // A lane gives up whatever no try can help, so bystanders must not be told such a thing.
                Outcome::Retry { error, .. } => {
                    assert_eq!(error.retry_class(), RetryClass::Sink, "{error}");
                    left.push(envelope);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(rejected, ["e5", "e15"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_goes_away_and_comes_back_costs_the_others_nothing() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let (gone, stays) = (topic(&kafka, "gone", &[]).await, topic(&kafka, "stays", &[]).await);
    let sink = connect::<Kafka>(&format!("brokers = [\"{}\"]", kafka.url())).await;
    let both = |n: u32| [event(&format!("g{n}"), &gone, None), event(&format!("s{n}"), &stays, None)];
    assert_eq!(words(&*sink, &both(0)).await, ["delivered", "delivered"]);
    admin(&kafka).delete_topics(&[&gone], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let outcomes = publish(&*sink, &both(1), PATIENCE).await;
        match [word(&outcomes[0]), word(&outcomes[1])].each_ref().map(String::as_str) {
            ["unroutable", "delivered"] => break,
            // While it is being deleted its brokers may say anything.
            _ => assert!(Instant::now() < until, "{outcomes:?}"),
        }
    }
    let address = event("x", &gone, None).address;
    let probed = sink.probe(Probe::Address(&address), Instant::now() + PATIENCE).await;
    assert_eq!(probed.unwrap_err().kind(), ErrorKind::Unroutable);
    create(&kafka, &gone, &[]).await;
    let until = Instant::now() + PATIENCE;
    while words(&*sink, &both(2)).await != ["delivered", "delivered"] {
        assert!(Instant::now() < until, "it is not found again");
    }
}

/// The keys that log in with this password.
fn sasl(mechanism: &str, password: &Path) -> String {
    let password = password.display();
    format!(
        "sasl = {{ mechanism = \"{mechanism}\", username = \"{USER}\", password = {{ file = \"{password}\" }} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_taken_or_refused() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let Some(door) = kafka.endpoint(Access::Password) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    fs::write(&right, PASSWORD).unwrap();
    fs::write(&wrong, "hunter2").unwrap();
    let mechanisms: &[_] =
        if cfg!(feature = "tls") { &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] } else { &["PLAIN"] };
    for mechanism in mechanisms {
        let topic = topic(&kafka, &format!("login-{mechanism}"), &[]).await;
        let brokers = format!("brokers = [\"{}\"]\n", door.url);
        let sink = connect::<Kafka>(&(brokers.clone() + &sasl(mechanism, &right))).await;
        assert_eq!(words(&*sink, &[event("e1", &topic, None)]).await, ["delivered"], "{mechanism}");
        let sink = connect::<Kafka>(&(brokers + &sasl(mechanism, &wrong))).await;
        let soon = Duration::from_secs(3);
        let outcome = publish(&*sink, &[event("e2", &topic, None)], soon).await.remove(0);
        assert_eq!(word(&outcome), "auth", "{mechanism}: {outcome:?}");
        let probed = sink.probe(Probe::Sink, Instant::now() + soon).await.unwrap_err();
        assert_eq!(probed.kind(), ErrorKind::Auth, "{mechanism}: {probed}");
        assert!(!format!("{sink:?} {probed} {outcome:?}").contains("hunter2"));
    }
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_at_both_ends() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let (Some(tls), Some(mutual)) = (kafka.endpoint(Access::Tls), kafka.endpoint(Access::MutualTls)) else {
        return;
    };
    let certificates = kafka.certificates().unwrap();
    let topic = topic(&kafka, "tls", &[]).await;
    let show = |path: &Path| path.display().to_string();
    let ca = format!("ca = \"{}\"", show(&certificates.ca));
    let own = format!(
        "cert = \"{}\", key = {{ file = \"{}\" }}",
        show(&certificates.client_cert),
        show(&certificates.client_key)
    );
    let config = |at: &str, tls: &str| format!("brokers = [\"{at}\"]\ntls = {{ {tls} }}\n");
    let events = [event("e1", &topic, None)];
    let trusted = connect::<Kafka>(&config(&tls.url, &ca)).await;
    assert_eq!(words(&*trusted, &events).await, ["delivered"]);
    let known = connect::<Kafka>(&config(&mutual.url, &format!("{ca}, {own}"))).await;
    assert_eq!(words(&*known, &events).await, ["delivered"]);
    let soon = Duration::from_secs(3);
    // Signed by nobody the system knows; and a client that shows no certificate.
    for config in [config(&tls.url, ""), config(&mutual.url, &ca)] {
        let sink = connect::<Kafka>(&config).await;
        let outcome = publish(&*sink, &events, soon).await.remove(0);
        assert_eq!(word(&outcome), "unavailable", "{outcome:?}");
    }
}
