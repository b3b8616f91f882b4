//! Being asked to stop: no request goes unanswered, nothing that was answered is lost, and the exit code
//! tells.

use std::{
    collections::HashSet,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::{
    corpus::{Event, event},
    support::{Bridge, Client, Provider, Setup, alone, head, number_of, until},
};

use Provider::FastPix;

/// Clients that keep their connection, and clients that open one for each request.
const KEEPING: usize = 12;
const OPENING: usize = 4;
/// Uploads under way, and connections without a request, when the signal comes.
const UPLOADS: usize = 4;
const IDLE: usize = 4;

/// What the clients of one round saw.
#[derive(Default)]
struct Seen {
    next: AtomicU64,
    /// Set just before the signal is sent.
    stopping: AtomicBool,
    /// Numbers of the events that were answered 200.
    answered: Mutex<Vec<u64>>,
    /// What must not happen.
    wrong: Mutex<Vec<String>>,
    /// Requests on connections that were made after the signal and ended without an answer: the kernel
    /// completes connections on its own until the socket is closed, so the bridge never had them.
    late: AtomicU64,
}

impl Seen {
    fn genuine(&self) -> (u64, Event) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let event = event(number);
            if event.forgery.is_none() {
                return (number, event);
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn answered(&self) -> usize {
        self.answered.lock().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_every_request_is_answered_and_every_answered_event_is_on_disk() {
    let _alone = alone().await;
    let rounds = number_of("HOOKBUS_TEST_ROUNDS", 3);
    let (mut answered, mut written, mut late) = (0, 0, 0);
    for round in 0..rounds {
        let seen = stop_under_load(round).await;
        answered += seen.0;
        written += seen.1;
        late += seen.2;
    }
    eprintln!(
        "sigterm: {rounds} rounds with {} clients: {answered} requests answered 200, none unanswered; \
         {written} lines written, all answered events among them; {late} connections came too late",
        KEEPING + OPENING + UPLOADS + IDLE
    );
}

/// One round; returns requests answered 200, lines written, and requests that came too late.
async fn stop_under_load(round: u64) -> (usize, usize, u64) {
    let mut bridge = Bridge::start(Setup { timeouts: "grace = \"60s\"", ..Setup::default() }).await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for client in 0..KEEPING + OPENING {
        clients.spawn(drive(Arc::clone(&seen), bridge.address(), client < KEEPING));
    }
    let mut uploads = Vec::new();
    for at in 0..UPLOADS {
        uploads.push(Upload::begin(&bridge, at).await);
    }
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut client = bridge.connect().await;
        let (number, event) = seen.genuine();
        assert_eq!(client.ask(&event.request()).await.taken(), "accepted");
        seen.answered.lock().unwrap().push(number);
        idle.push(client);
    }
    // At another moment in each round.
    let enough = 50 + 61 * (round as usize % 7);
    until("requests are answered", || seen.answered() >= enough).await;
    seen.stopping.store(true, Ordering::SeqCst);
    bridge.signal(Signal::TERM);
    bridge.logged("stopping").await;
    let mut uploaded = Vec::new();
    for upload in uploads {
        uploaded.push(upload.finish().await);
    }
    for mut client in idle {
        client.ended().await;
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert_eq!(bridge.exit_code().await, 0);
    bridge.logged("stopped").await;

    let wrong = seen.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "round {round}: {wrong:#?}");
    let on_disk = Provider::ALL.map(|provider| {
        let bodies = bridge.written(provider.name()).into_iter().map(move |line| (provider, line.body));
        bodies.collect::<HashSet<_>>()
    });
    let on_disk: HashSet<_> = on_disk.into_iter().flatten().collect();
    let answered = seen.answered.lock().unwrap();
    for number in answered.iter() {
        let event = event(*number);
        assert!(on_disk.contains(&(event.provider, event.body)), "round {round}: {number} is not on disk");
    }
    for body in &uploaded {
        assert!(on_disk.contains(&(FastPix, body.clone())), "round {round}: an upload is not on disk");
    }
    (answered.len() + uploaded.len(), on_disk.len(), seen.late.load(Ordering::SeqCst))
}

/// A client in a closed loop, until the bridge takes no more connections.
async fn drive(seen: Arc<Seen>, address: SocketAddr, keeps: bool) {
    loop {
        let mut client = match Client::connect(address).await {
            Ok(client) => client,
            Err(error) => {
                if !seen.is_stopping() {
                    seen.wrong(format!("cannot connect: {error}"));
                }
                return;
            }
        };
        // Made before the signal, so it is the bridge's own and has to be served.
        let owed = !seen.is_stopping();
        loop {
            let (number, event) = seen.genuine();
            if let Err(error) = client.send(&event.request()).await {
                // The request was not sent whole. Before the signal even that is wrong.
                if !seen.is_stopping() {
                    seen.wrong(format!("{number} cannot be sent: {error}"));
                }
                break;
            }
            match client.receive().await {
                Ok(response) if response.status == 200 => {
                    seen.answered.lock().unwrap().push(number);
                    if response.is_last() || !keeps {
                        break;
                    }
                }
                Ok(response) => seen.wrong(format!("{number} was answered {response:?}")),
                Err(error) if owed => {
                    seen.wrong(format!("{number} was not answered: {error}"));
                    break;
                }
                Err(_) => {
                    seen.late.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
        }
    }
}

/// A request of which a part was sent.
struct Upload {
    client: Client,
    body: Vec<u8>,
}

impl Upload {
    const SENT: usize = 20;

    async fn begin(bridge: &Bridge, number: usize) -> Self {
        let body = format!(r#"{{"id":"upload-{number}","type":"upload"}}"#).into_bytes();
        let (signature, length) = (FastPix.signature(&body), body.len().to_string());
        let headers =
            [(FastPix.header(), signature.as_str()), ("content-length", &length), ("expect", "100-continue")];
        let mut client = bridge.connect().await;
        // The interim answer says that the bridge is at work on it.
        assert_eq!(client.ask(&head("/hooks/fastpix", &headers)).await.status, 100);
        client.send(&body[..Self::SENT]).await.unwrap();
        Self { client, body }
    }

    async fn finish(mut self) -> Vec<u8> {
        let response = self.client.ask(&self.body[Self::SENT..]).await;
        assert_eq!(response.taken(), "accepted");
        self.body
    }
}

#[tokio::test]
async fn connections_that_wait_to_be_accepted_are_served_before_it_stops() {
    let mut bridge = Bridge::start(Setup::default()).await;
    // Frozen, it accepts nothing, but the kernel completes connections for it.
    bridge.signal(Signal::STOP);
    let mut waiting = Vec::new();
    for number in 0..64 {
        let mut client = bridge.connect().await;
        client.send(&FastPix.request(format!(r#"{{"id":"waiting-{number}"}}"#).as_bytes())).await.unwrap();
        waiting.push(client);
    }
    bridge.signal(Signal::TERM);
    bridge.signal(Signal::CONT);
    for client in &mut waiting {
        assert_eq!(client.receive().await.unwrap().taken(), "accepted");
    }
    assert_eq!(bridge.exit_code().await, 0);
    assert_eq!(bridge.written("fastpix").len(), waiting.len());
}

#[tokio::test]
async fn an_answer_given_while_stopping_says_that_it_is_the_last() {
    let mut bridge = Bridge::start(Setup::default()).await;
    let mut upload = Upload::begin(&bridge, 0).await;
    bridge.signal(Signal::TERM);
    bridge.logged("stopping").await;
    let response = upload.client.ask(&upload.body[Upload::SENT..]).await;
    assert_eq!(response.taken(), "accepted");
    // Else the client sends its next request into a connection that is about to be closed.
    assert!(response.is_last(), "{response:?}");
    assert_eq!(bridge.exit_code().await, 0);
}

#[tokio::test]
async fn an_idle_bridge_stops_when_asked_whoever_is_connected() {
    for signal in [Signal::TERM, Signal::INT] {
        let timeouts = "first-byte = \"1h\", idle = \"1h\", grace = \"1h\"";
        let mut bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
        let (mut new, mut used) = (bridge.connect().await, bridge.connect().await);
        assert_eq!(used.ask(&FastPix.request(b"{\"id\":\"e1\"}")).await.taken(), "accepted");
        bridge.signal(signal);
        // All limits are longer than the test waits.
        assert_eq!(bridge.exit_code().await, 0);
        new.ended().await;
        used.ended().await;
        assert_eq!(
            Client::connect(bridge.address()).await.err().unwrap().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(bridge.written("fastpix").len(), 1);
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let timeouts = "body = \"1h\", grace = \"1h\"";
    let mut bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
    let mut upload = Upload::begin(&bridge, 0).await;
    bridge.signal(Signal::TERM);
    bridge.logged("stopping").await;
    bridge.signal(Signal::INT);
    assert_eq!(bridge.exit_code().await, 130);
    upload.client.ended().await;
    assert!(bridge.written("fastpix").is_empty());
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_period_is_cut_and_the_exit_code_says_so() {
    let timeouts = "body = \"1h\", grace = \"1s\"";
    let mut bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
    let mut upload = Upload::begin(&bridge, 0).await;
    bridge.signal(Signal::TERM);
    assert_eq!(bridge.exit_code().await, 3);
    upload.client.ended().await;
    assert!(bridge.log().contains("\"connections_cut\":1"), "{}", bridge.log());
}
