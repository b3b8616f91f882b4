//! What differs from server to server: logins, TLS, replicas, memory, trimming.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, time::Duration};

use hookbus_brokers::{Access, Broker, Kind, Options, PASSWORD, USER, private};
use hookbus_core::{Address, Batch, Envelope, ErrorKind, Instant, Outcome, Probe, Report, RetryClass, Sink};
use hookbus_redis::Redis;
use hookbus_testkit::{TestEvent, address, connect};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// What the page about this sink says a user needs.
const PERMISSIONS: &str = "+xadd +multi +exec +ping +type +wait +info +config|get";

async fn server(options: Options) -> Option<Broker> {
    tokio::task::spawn_blocking(move || private(Kind::Redis, &options)).await.unwrap()
}

fn stream(name: &str) -> Address {
    address::<Redis>(&[("stream", name)])
}

fn event(id: &str, stream: &str) -> Envelope {
    Envelope::new(TestEvent::new("fastpix").id(id).build(), self::stream(stream))
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

async fn one(sink: &dyn Sink, stream: &str) -> String {
    word(&publish(sink, &[event("e1", stream)], PATIENCE).await[0])
}

/// A configuration that logs in as the test's user.
fn login(broker: &Broker, password: &str, folder: &TempDir) -> String {
    let file = folder.path().join("password");
    fs::write(&file, password).unwrap();
    let at = broker.endpoint(Access::Plain).map_or(broker.address(), |plain| plain.address);
    format!("url = \"redis://{at}\"\nusername = \"{USER}\"\npassword = {{ file = \"{}\" }}\n", file.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_in_the_documentation_are_enough() {
    let user = format!("{USER} on >{PASSWORD} ~hooks:* {PERMISSIONS}");
    let options = Options::default().set("user", "default off").set("user", user);
    let Some(broker) = server(options).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = login(&broker, PASSWORD, &folder);
    let sink = connect::<Redis>(&config).await;
    assert_eq!(one(&*sink, "hooks:media").await, "delivered");
    let group = [event("e2", "hooks:media").in_group(1), event("e3", "hooks:media").in_group(1)];
    assert!(publish(&*sink, &group, PATIENCE).await.iter().all(|outcome| word(outcome) == "delivered"));
    assert!(sink.probe(Probe::Sink, Instant::now() + PATIENCE).await.is_ok());
    // A stream it may not write to costs the others nothing.
    let mixed = [event("e4", "secret"), event("e5", "hooks:media")];
    let words: Vec<_> = publish(&*sink, &mixed, PATIENCE).await.iter().map(word).collect();
    assert_eq!(words, ["unroutable", "delivered"]);
    let forbidden = sink.probe(Probe::Address(&stream("secret")), Instant::now() + PATIENCE).await;
    assert_eq!(forbidden.unwrap_err().kind(), ErrorKind::Unroutable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_told_from_an_outage() {
    let without = format!("{USER} on >{PASSWORD} ~* +ping +info");
    let options = Options::default().set("user", "default off").set("user", without);
    let Some(broker) = server(options).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let refused = connect::<Redis>(&login(&broker, "wrong", &folder)).await;
    assert_eq!(one(&*refused, "s").await, "auth");
    // The password counts that is there when it connects.
    fs::write(folder.path().join("password"), PASSWORD).unwrap();
    assert!(refused.probe(Probe::Sink, Instant::now() + PATIENCE).await.is_ok());
    // Logged in, but XADD is not for this user: no stream would work.
    assert_eq!(one(&*refused, "s").await, "auth");
    let config = format!(
        "url = \"redis://{}\"\npassword = {{ file = \"{}\" }}\n",
        broker.address(),
        folder.path().join("none").display()
    );
    let missing = connect::<Redis>(&config).await;
    let outcome = publish(&*missing, &[event("e1", "s")], PATIENCE).await.remove(0);
    let Outcome::Retry { error, .. } = outcome else { panic!("{outcome:?}") };
    assert!(error.retry_class() == RetryClass::Sink && error.to_string().contains("none"), "{error}");
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_at_both_ends() {
    let Some(broker) = server(Options::secured().set("tls-auth-clients", "yes")).await else { return };
    let certificates = broker.certificates().unwrap();
    let at = broker.endpoint(Access::Tls).unwrap().address;
    let show = |path: &std::path::Path| path.display().to_string();
    let own = format!(
        "cert = \"{}\", key = {{ file = \"{}\" }}",
        show(&certificates.client_cert),
        show(&certificates.client_key)
    );
    let config = |tls: &str| format!("url = \"rediss://{at}\"\ntls = {{ {tls} }}\n");
    let ca = format!("ca = \"{}\"", show(&certificates.ca));
    let trusted = connect::<Redis>(&config(&format!("{ca}, {own}"))).await;
    assert_eq!(one(&*trusted, "s").await, "delivered");
    // Signed by nobody the system knows.
    let unknown = connect::<Redis>(&config(&own)).await;
    assert_eq!(one(&*unknown, "s").await, "unavailable");
    let anonymous = connect::<Redis>(&config(&ca)).await;
    assert_eq!(one(&*anonymous, "s").await, "unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_counts_when_the_replicas_have_it() {
    let Some(primary) = server(Options::default()).await else { return };
    let Some(replica) = server(Options::default().replica_of(primary.address())).await else { return };
    let config = format!("url = \"redis://{}\"\nconfirm = \"replicas:1\"\n", primary.address());
    let sink = connect::<Redis>(&config).await;
    // Until the replica has caught up nothing is confirmed, whatever the primary says.
    let until = Instant::now() + PATIENCE;
    while one(&*sink, "s").await != "delivered" {
        assert!(Instant::now() < until, "the replica never confirmed");
    }
    replica.pause().unwrap();
    let outcome = publish(&*sink, &[event("e2", "s")], Duration::from_secs(1)).await.remove(0);
    assert_eq!(word(&outcome), "maybe timeout");
    replica.resume().unwrap();
    assert_eq!(one(&*sink, "s").await, "delivered");
    // One that asks for more replicas than there are never gets its word.
    let two = connect::<Redis>(&config.replace("replicas:1", "replicas:2")).await;
    let outcome = publish(&*two, &[event("e3", "s")], Duration::from_secs(1)).await.remove(0);
    let Outcome::Retry { error, .. } = outcome else { panic!("{outcome:?}") };
    assert!(error.message().contains("1 of 2"), "{error}");
    // A replica takes no events.
    let wrong = connect::<Redis>(&format!("url = \"redis://{}\"", replica.address())).await;
    assert_eq!(one(&*wrong, "s").await, "unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_memory_refuses_groups_as_a_whole() {
    let Some(broker) = server(Options::default()).await else { return };
    let sink = connect::<Redis>(&format!("url = \"redis://{}\"", broker.address())).await;
    assert_eq!(one(&*sink, "s").await, "delivered");
    broker.redis(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let events = [event("a", "s").in_group(1), event("b", "s").in_group(1), event("c", "s")];
    let words: Vec<_> = publish(&*sink, &events, PATIENCE).await.iter().map(word).collect();
    assert_eq!(words, ["overloaded"; 3]);
    broker.redis(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let words: Vec<_> = publish(&*sink, &events, PATIENCE).await.iter().map(word).collect();
    assert_eq!(words, ["delivered"; 3]);
    assert_eq!(broker.redis(&["XLEN", "s"]).unwrap(), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_kept_short() {
    let Some(broker) = server(Options::default()).await else { return };
    // Trimming is approximate: whole nodes go, of a hundred entries each.
    let events: Vec<_> = (0..1000).map(|n| event(&format!("e{n}"), "long")).collect();
    let config = format!("url = \"redis://{}\"\nmax-len = 100\n", broker.address());
    publish(&*connect::<Redis>(&config).await, &events, PATIENCE).await;
    let left: u32 = broker.redis(&["XLEN", "long"]).unwrap().parse().unwrap();
    assert!((100..=300).contains(&left), "{left}");
    // An entry of 1970 is older than an hour.
    broker.redis(&["XADD", "old", "1-1", "data", "x"]).unwrap();
    let config = format!("url = \"redis://{}\"\nmax-age = \"1h\"\n", broker.address());
    broker.redis(&["CONFIG", "SET", "stream-node-max-entries", "1"]).unwrap();
    let sink = connect::<Redis>(&config).await;
    for _ in 0..3 {
        assert_eq!(one(&*sink, "old").await, "delivered");
    }
    assert_eq!(broker.redis(&["XLEN", "old"]).unwrap(), "3");
}
