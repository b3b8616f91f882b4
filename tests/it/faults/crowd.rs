//! Clients that do what providers do, and remember what they were told.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    corpus,
    support::{Bridge, Client, PATIENCE, Provider, number_of, post, until},
};

/// Clients in a crowd.
const CLIENTS: u64 = 24;
/// A client sends no faster: what these tests are about is not how fast a debug build is.
const PACE: Duration = Duration::from_millis(4);
/// How long a client waits after a 503. Providers wait longer, which would only make less of it.
const AGAIN: Duration = Duration::from_millis(100);

/// Numbers are never used twice in a process, so that every event is another one.
static EVENTS: AtomicU64 = AtomicU64::new(1);
static SUBJECTS: AtomicU64 = AtomicU64::new(1);

/// Clients at work on one source, each sending one event after the other about a subject of its own.
pub(super) struct Crowd {
    seen: Arc<Seen>,
    clients: JoinSet<Vec<Sent>>,
}

struct Seen {
    address: SocketAddr,
    source: &'static str,
    stopping: AtomicBool,
    /// Requests answered 200, and 503.
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// An event, and what its client was told.
#[derive(Debug)]
pub(super) struct Sent {
    /// Grows with each event of a client.
    pub(super) number: u64,
    pub(super) subject: u64,
    pub(super) body: Vec<u8>,
    pub(super) signature: String,
    /// Whether its client goes on to the next event only after a 200.
    pub(super) insists: bool,
    /// Whether it was answered 200 in the end.
    pub(super) accepted: bool,
    /// How often it was answered 503.
    pub(super) refused: u64,
}

impl Crowd {
    /// Lets clients send to a source: half of them insist on a 200, half go on with another event.
    pub(super) fn gather(bridge: &Bridge, source: &'static str) -> Self {
        let seen = Arc::new(Seen {
            address: bridge.address(),
            source,
            stopping: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let mut clients = JoinSet::new();
        for client in 0..number_of("HOOKBUS_TEST_CLIENTS", CLIENTS) {
            let subject = SUBJECTS.fetch_add(1, Relaxed);
            clients.spawn(send(Arc::clone(&seen), subject, client % 2 == 0));
        }
        Self { seen, clients }
    }

    /// How many clients there are, and so requests at once.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Waits until so many more requests were answered 200.
    pub(super) async fn accepted(&self, more: u64) {
        let enough = self.seen.accepted.load(Relaxed) + more;
        until("events are accepted", || self.seen.accepted.load(Relaxed) >= enough).await;
    }

    /// Waits until so many more requests were answered 503.
    pub(super) async fn refused(&self, more: u64) {
        let enough = self.seen.refused.load(Relaxed) + more;
        until("events are refused", || self.seen.refused.load(Relaxed) >= enough).await;
    }

    /// Whether any request was answered 200 so far.
    pub(super) fn any_accepted(&self) -> bool {
        self.seen.accepted.load(Relaxed) > 0
    }

    /// Lets each client come to the end of its event; all they sent.
    pub(super) async fn disperse(mut self) -> Vec<Sent> {
        self.seen.stopping.store(true, Relaxed);
        let mut all = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            all.extend(client.unwrap());
        }
        all
    }
}

/// One client, until it is told to stop.
async fn send(seen: Arc<Seen>, subject: u64, insists: bool) -> Vec<Sent> {
    let mut client = Client::connect(seen.address).await.unwrap();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut all = Vec::new();
    while !seen.stopping.load(Relaxed) {
        pace.tick().await;
        let mut sent = Sent::new(subject, insists);
        sent.deliver(&mut client, &seen).await;
        all.push(sent);
    }
    all
}

impl Sent {
    fn new(subject: u64, insists: bool) -> Self {
        let number = EVENTS.fetch_add(1, Relaxed);
        let body = corpus::video(&id(number), &object(subject));
        Self::of(number, subject, body, insists)
    }

    /// An event with this much padding in it.
    pub(super) fn padded(padding: usize) -> Self {
        let (number, subject) = (EVENTS.fetch_add(1, Relaxed), SUBJECTS.fetch_add(1, Relaxed));
        let (id, object, padding) = (id(number), object(subject), "x".repeat(padding));
        let body = format!(
            r#"{{"type":"padded","id":"{id}","object":{{"type":"media","id":"{object}"}},"padding":"{padding}"}}"#
        );
        Self::of(number, subject, body.into_bytes(), false)
    }

    fn of(number: u64, subject: u64, body: Vec<u8>, insists: bool) -> Self {
        let signature = Provider::FastPix.signature(&body);
        Self { number, subject, body, signature, insists, accepted: false, refused: 0 }
    }

    /// Its id.
    pub(super) fn id(&self) -> String {
        id(self.number)
    }

    /// What it is about.
    pub(super) fn object(&self) -> String {
        object(self.subject)
    }

    /// The request that brings it to a source.
    pub(super) fn request(&self, source: &str) -> Vec<u8> {
        let headers =
            [(Provider::FastPix.header(), self.signature.as_str()), ("content-type", "application/json")];
        post(&format!("/hooks/{source}"), &headers, &self.body)
    }

    /// Sends it; after a 503 again and again, where its client insists.
    async fn deliver(&mut self, client: &mut Client, seen: &Seen) {
        let (request, late) = (self.request(seen.source), Instant::now() + PATIENCE);
        loop {
            let response = client.ask(&request).await;
            if response.status == 200 {
                let says = response.taken();
                // A confirmation that came too late for the answer before counts.
                assert!(says == "accepted" || (says == "duplicate" && self.refused > 0), "{says}: {self:?}");
                self.accepted = true;
                seen.accepted.fetch_add(1, Relaxed);
                return;
            }
            response.problem(503);
            assert!(response.header("retry-after").is_some(), "{response:?}");
            self.refused += 1;
            seen.refused.fetch_add(1, Relaxed);
            sleep(AGAIN).await;
            if !self.insists {
                return;
            }
            assert!(Instant::now() < late, "it is never accepted: {}", self.id());
        }
    }
}

fn id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

fn object(subject: u64) -> String {
    format!("00000000-0000-4000-9000-{subject:012}")
}
