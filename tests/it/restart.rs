//! One process after the other on the same socket, and what a service manager hears: nobody who sends notices.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpListener},
    os::linux::net::SocketAddrExt as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    net::UnixDatagram,
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use crate::support::{
    Bridge, Client, PATIENCE, Passing, Provider, Written, alone, number_of, post, say, skip, until,
};

use Provider::FastPix;

/// Clients, each with a subject of its own; every other one opens a connection for each request.
const CLIENTS: usize = 12;
/// Requests answered between two restarts, at least.
const BETWEEN: u64 = 60;

const CONFIG: &str = r#"[server]
listen = "127.0.0.1:0"
limits = { connections-per-address = 1024 }
timeouts = { grace = "60s" }
[sources.fastpix]
provider = "fastpix"
secrets = [{ file = "fastpix.secret" }]
ack-timeout = "30s"
[sinks.lines]
type = "file"
dir = "events"
[[routes]]
name = "all"
to = [{ sink = "lines", path = "{source}.ndjson" }]
"#;

/// What the clients did.
#[derive(Default)]
struct Sent {
    over: AtomicBool,
    answered: AtomicU64,
    connections: AtomicU64,
    /// How many events of each subject were accepted.
    subjects: Mutex<HashMap<usize, u64>>,
}

fn signed(body: &[u8]) -> Vec<u8> {
    post("/hooks/fastpix", &[(FastPix.header(), &FastPix.signature(body))], body)
}

/// A socket that outlives every process that serves it.
fn socket() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_connection_is_refused_and_nothing_answered_is_lost() {
    let _alone = alone().await;
    let restarts = number_of("HOOKBUS_TEST_RESTARTS", 3);
    let socket = socket();
    let address = socket.local_addr().unwrap();
    let arguments = &["--take-over-within", "60s"];
    let passing = Passing { socket: Some(socket), arguments, ..Passing::default() };
    let mut bridge = Bridge::start_passing(CONFIG, passing).await;
    assert_eq!(bridge.address(), address);
    let sent = Arc::new(Sent::default());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(drive(Arc::clone(&sent), address, client));
    }
    for restart in 1..=restarts {
        until("requests are answered", || sent.answered.load(Ordering::SeqCst) >= restart * BETWEEN).await;
        // By turns one after the other, as systemd does, and the next one before the one before has ended.
        if restart % 2 == 0 {
            bridge.stop().await;
            bridge.start_again();
        } else {
            let mut before = bridge.succeed();
            bridge.logged("waiting for another process").await;
            before.signal(Signal::TERM);
            assert_eq!(before.exit_code().await, 0);
        }
        bridge.listens().await;
    }
    let enough = (restarts + 1) * BETWEEN;
    until("requests are answered", || sent.answered.load(Ordering::SeqCst) >= enough).await;
    sent.over.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let answered = sent.answered.load(Ordering::SeqCst);
    // What is not delivered at the end stays in the journal.
    let file = bridge.path("events/fastpix.ndjson");
    let lines = || fs::read(&file).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count());
    until("everything has arrived", || lines() as u64 >= answered).await;
    bridge.stop().await;
    let (arrived, duplicates) = arrived(&bridge, &sent.subjects.lock().unwrap());
    say(&format!(
        "restart: {restarts} restarts under {CLIENTS} clients: {} connections, none refused; {answered} requests, all \
         answered 200; accepted minus arrived = {}, {duplicates} duplicates, each subject in order",
        sent.connections.load(Ordering::SeqCst),
        answered - arrived
    ));
    assert_eq!(answered, arrived);
}

/// Counts what arrived, each event once, and what arrived again; each subject is in order.
fn arrived(bridge: &Bridge, subjects: &HashMap<usize, u64>) -> (u64, u64) {
    let (mut next, mut duplicates): (HashMap<usize, u64>, u64) = (HashMap::new(), 0);
    for line in bridge.written("fastpix") {
        let Written { id, .. } = line;
        let (subject, number) = id.split_once('-').unwrap();
        let (subject, number): (usize, u64) = (subject.parse().unwrap(), number.parse().unwrap());
        let next = next.entry(subject).or_default();
        match number.cmp(next) {
            std::cmp::Ordering::Equal => *next += 1,
            std::cmp::Ordering::Less => duplicates += 1,
            std::cmp::Ordering::Greater => panic!("{id} came before {subject}-{next}"),
        }
    }
    assert_eq!(next, *subjects, "what was answered, and nothing else");
    (next.values().sum(), duplicates)
}

/// Sends the events of one subject, one after the other, until it is over. A connection may end behind an answer that says
/// so, and only there.
async fn drive(sent: Arc<Sent>, address: SocketAddr, subject: usize) {
    let connect = async || {
        sent.connections.fetch_add(1, Ordering::SeqCst);
        Client::connect(address).await.expect("no connection is refused")
    };
    let mut client = connect().await;
    let mut number = 0;
    while !sent.over.load(Ordering::SeqCst) {
        let id = format!("{subject}-{number}");
        let body = format!(r#"{{"id":"{id}","type":"video.media.ready","object":{{"id":"m{subject}"}}}}"#);
        let answer = client.ask(&signed(body.as_bytes())).await;
        assert_eq!(answer.status, 200, "{id}: {answer:?}");
        assert_eq!(answer.taken(), "accepted");
        number += 1;
        sent.answered.fetch_add(1, Ordering::SeqCst);
        if answer.is_last() || subject.is_multiple_of(2) {
            client = connect().await;
        }
    }
    sent.subjects.lock().unwrap().insert(subject, number);
}

#[tokio::test]
async fn what_waits_in_a_passed_socket_is_left_to_the_next_process() {
    let socket = socket();
    let passing = Passing { socket: Some(socket.try_clone().unwrap()), ..Passing::default() };
    let mut bridge = Bridge::start_passing(CONFIG, passing).await;
    bridge.stop().await;
    // Nobody serves, and nobody is refused.
    let mut client = bridge.connect().await;
    client.send(&signed(b"{\"id\":\"e1\"}")).await.unwrap();
    bridge.start_again();
    bridge.listens().await;
    assert_eq!(client.receive().await.unwrap().taken(), "accepted");
    bridge.stop().await;
    drop(socket);
}

#[tokio::test]
async fn without_patience_a_folder_in_use_is_an_error() {
    let mut bridge = Bridge::start_passing(CONFIG, Passing::default()).await;
    let mut before = bridge.succeed();
    assert_eq!(bridge.exit_code().await, 4);
    before.signal(Signal::TERM);
    assert_eq!(before.exit_code().await, 0);
}

/// Waits for a word of the bridge to its manager, and returns all of that message.
async fn heard(manager: &UnixDatagram, word: &str) -> String {
    let hearing = async {
        let mut buffer = vec![0; 4096];
        loop {
            let length = manager.recv(&mut buffer).await.unwrap();
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if message.lines().any(|line| line == word) {
                return message;
            }
        }
    };
    timeout(PATIENCE, hearing).await.unwrap_or_else(|_| panic!("it never said {word}"))
}

#[tokio::test]
async fn a_service_manager_hears_what_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let name = format!("hookbus-test-{}", std::process::id());
    let by_path = UnixDatagram::bind(&path).unwrap();
    let abstract_address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let by_name = std::os::unix::net::UnixDatagram::bind_addr(&abstract_address).unwrap();
    by_name.set_nonblocking(true).unwrap();
    let by_name = UnixDatagram::from_std(by_name).unwrap();
    for (manager, address) in [(by_path, path.to_str().unwrap().to_owned()), (by_name, format!("@{name}"))] {
        let variables = vec![("NOTIFY_SOCKET", address), ("WATCHDOG_USEC", "200000".to_owned())];
        let mut bridge = Bridge::start_passing(CONFIG, Passing { variables, ..Passing::default() }).await;
        let ready = heard(&manager, "READY=1").await;
        assert!(ready.contains("STATUS=serving"), "{ready}");
        heard(&manager, "WATCHDOG=1").await;
        bridge.configure("wrong = 1");
        bridge.signal(Signal::HUP);
        let reloading = heard(&manager, "RELOADING=1").await;
        assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
        let again = heard(&manager, "READY=1").await;
        assert!(again.contains("STATUS=serving; the newest configuration is wrong"), "{again}");
        bridge.signal(Signal::TERM);
        heard(&manager, "STOPPING=1").await;
        assert_eq!(bridge.exit_code().await, 0);
    }
}

#[tokio::test]
async fn systemds_own_tool_passes_the_socket() {
    const TOOL: &str = "systemd-socket-activate";
    if std::process::Command::new(TOOL).arg("--version").output().is_err() {
        return skip("restart::systemd", "systemd-socket-activate, of the package systemd");
    }
    let address = socket().local_addr().unwrap();
    let by = vec![TOOL.to_owned(), format!("--listen={address}"), "--fdname=server".to_owned()];
    // It becomes the bridge when somebody comes.
    let first = tokio::spawn(async move {
        let deadline = Instant::now() + PATIENCE;
        let mut again = interval(Duration::from_millis(20));
        loop {
            again.tick().await;
            match Client::connect(address).await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    });
    let mut bridge = Bridge::start_passing(CONFIG, Passing { by, ..Passing::default() }).await;
    assert_eq!(bridge.address(), address);
    let mut client = first.await.unwrap();
    assert_eq!(client.ask(&signed(b"{\"id\":\"e1\"}")).await.taken(), "accepted");
    bridge.stop().await;
}
