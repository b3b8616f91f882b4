//! Clients that do what providers do, and remember what they were told.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use crate::{
    corpus,
    support::{Bridge, Client, PATIENCE, Provider, Response, number_of, post, until},
};

/// Clients in a crowd.
const CLIENTS: u64 = 24;
/// A client sends no faster: what these tests are about is not how fast a debug build is.
const PACE: Duration = Duration::from_millis(4);
/// How long a client waits after a 503. Providers wait longer, which would only make less of it.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it waits until it connects again, so that it is there when a bridge has just begun.
const BROKEN: Duration = Duration::from_millis(5);

/// Numbers are never used twice in a process, so that every event is another one.
static EVENTS: AtomicU64 = AtomicU64::new(1);
static SUBJECTS: AtomicU64 = AtomicU64::new(1);

/// How clients go about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) clients: u64,
    /// So many subjects each of them speaks of in turn, and nobody else.
    pub(super) subjects: u64,
    /// A client sends no faster than one event in this time.
    pub(super) pace: Duration,
    /// Who goes on to the next event only after a 200.
    pub(super) insists: Insists,
    /// What a connection is that breaks.
    pub(super) broken: Broken,
    /// What is added to each event, in bytes; nothing makes it one as recorded.
    pub(super) padding: usize,
}

/// Who goes on to the next event only after a 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insists {
    Everybody,
    EveryOther,
}

/// What a connection is that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// A failed test.
    Failure,
    /// What happens when a bridge is killed: the same event is sent by another one.
    Expected,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            clients: number_of("HOOKBUS_TEST_CLIENTS", CLIENTS),
            subjects: 1,
            pace: PACE,
            insists: Insists::EveryOther,
            broken: Broken::Failure,
            padding: 0,
        }
    }
}

/// Clients at work on one source, each sending one event after the other about subjects of its own.
pub(super) struct Crowd {
    seen: Arc<Seen>,
    clients: JoinSet<Vec<Sent>>,
}

struct Seen {
    address: SocketAddr,
    source: &'static str,
    habits: Habits,
    stopping: AtomicBool,
    /// Requests answered 200, and 503.
    accepted: AtomicU64,
    refused: AtomicU64,
    /// They wait while so many were answered 200.
    allowed: AtomicU64,
}

/// An event, and what its client was told.
#[derive(Debug)]
pub(super) struct Sent {
    /// Grows with each event of a client.
    pub(super) number: u64,
    pub(super) subject: u64,
    pub(super) padding: usize,
    /// Whether its client goes on to the next event only after a 200.
    pub(super) insists: bool,
    /// Whether it was answered 200 in the end.
    pub(super) accepted: bool,
    /// When the last answer came.
    pub(super) answered: Option<SystemTime>,
    /// How often it was answered 503.
    pub(super) refused: u64,
    /// How often it was sent and not answered.
    pub(super) unanswered: u64,
}

impl Crowd {
    /// Lets clients send to a source: half of them insist on a 200, half go on with another event.
    pub(super) fn gather(bridge: &Bridge, source: &'static str) -> Self {
        Self::of(Habits::default(), bridge.address(), source)
    }

    /// Lets clients with these habits send to a source.
    pub(super) fn of(habits: Habits, address: SocketAddr, source: &'static str) -> Self {
        let seen = Arc::new(Seen {
            address,
            source,
            habits,
            stopping: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            allowed: AtomicU64::new(u64::MAX),
        });
        let mut clients = JoinSet::new();
        for client in 0..habits.clients {
            let first = SUBJECTS.fetch_add(habits.subjects, Relaxed);
            let insists = habits.insists == Insists::Everybody || client % 2 == 0;
            // One after the other, not all at once.
            let begin = Instant::now() + habits.pace.mul_f64(client as f64 / habits.clients as f64);
            clients.spawn(send(Arc::clone(&seen), first, begin, insists));
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
        self.count_accepted() > 0
    }

    /// How many requests were answered 200 so far.
    pub(super) fn count_accepted(&self) -> u64 {
        self.seen.accepted.load(Relaxed)
    }

    /// Lets them wait as soon as about so many were answered 200.
    pub(super) fn allow(&self, count: u64) {
        self.seen.allowed.store(count, Relaxed);
    }

    /// How many requests were answered 503 so far.
    pub(super) fn count_refused(&self) -> u64 {
        self.seen.refused.load(Relaxed)
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
async fn send(seen: Arc<Seen>, first: u64, begin: Instant, insists: bool) -> Vec<Sent> {
    let habits = &seen.habits;
    let mut line = Line { address: seen.address, client: None };
    let mut pace = interval_at(begin, habits.pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut all = Vec::new();
    for subject in (first..first + habits.subjects).cycle() {
        pace.tick().await;
        while seen.accepted.load(Relaxed) >= seen.allowed.load(Relaxed) && !seen.stopping.load(Relaxed) {
            pace.tick().await;
        }
        if seen.stopping.load(Relaxed) {
            break;
        }
        let mut sent = Sent { insists, ..Sent::about(subject, habits.padding) };
        sent.deliver(&mut line, &seen).await;
        all.push(sent);
    }
    all
}

/// A client's connection, made when it is needed.
struct Line {
    address: SocketAddr,
    client: Option<Client>,
}

/// An exchange that went wrong.
struct Cut {
    error: io::Error,
    /// Whether something was sent: whether it was received nobody knows.
    sent: bool,
}

impl Line {
    async fn ask(&mut self, request: &[u8]) -> Result<Response, Cut> {
        // Given back only by an exchange that went well.
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(self.address).await.map_err(|error| Cut { error, sent: false })?,
        };
        let cut = |error| Cut { error, sent: true };
        client.send(request).await.map_err(cut)?;
        let response = client.receive().await.map_err(cut)?;
        self.client = Some(client);
        Ok(response)
    }
}

impl Sent {
    /// An event with this much padding in it.
    pub(super) fn padded(padding: usize) -> Self {
        Self::about(SUBJECTS.fetch_add(1, Relaxed), padding)
    }

    fn about(subject: u64, padding: usize) -> Self {
        Self {
            number: EVENTS.fetch_add(1, Relaxed),
            subject,
            padding,
            insists: false,
            accepted: false,
            answered: None,
            refused: 0,
            unanswered: 0,
        }
    }

    /// Its body, the same every time: of many events not each can be kept.
    pub(super) fn body(&self) -> Vec<u8> {
        let (id, object) = (self.id(), self.object());
        if self.padding == 0 {
            return corpus::video(&id, &object);
        }
        let padding = "x".repeat(self.padding);
        format!(
            r#"{{"type":"padded","id":"{id}","object":{{"type":"media","id":"{object}"}},"padding":"{padding}"}}"#
        )
        .into_bytes()
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
        let body = self.body();
        let signature = Provider::FastPix.signature(&body);
        let headers =
            [(Provider::FastPix.header(), signature.as_str()), ("content-type", "application/json")];
        post(&format!("/hooks/{source}"), &headers, &body)
    }

    /// Sends it; after a 503 again and again, where its client insists.
    async fn deliver(&mut self, line: &mut Line, seen: &Seen) {
        let (request, late) = (self.request(seen.source), Instant::now() + PATIENCE);
        loop {
            match line.ask(&request).await {
                Ok(response) if response.status == 200 => {
                    let says = response.taken();
                    // A confirmation that came too late for the answer before counts, and one that was not heard.
                    let may_be_known = self.refused + self.unanswered > 0;
                    assert!(says == "accepted" || (says == "duplicate" && may_be_known), "{says}: {self:?}");
                    (self.accepted, self.answered) = (true, Some(SystemTime::now()));
                    seen.accepted.fetch_add(1, Relaxed);
                    return;
                }
                Ok(response) => {
                    response.problem(503);
                    assert!(response.header("retry-after").is_some(), "{response:?}");
                    self.answered = Some(SystemTime::now());
                    self.refused += 1;
                    seen.refused.fetch_add(1, Relaxed);
                    sleep(AGAIN).await;
                    if !self.insists {
                        return;
                    }
                }
                Err(cut) => {
                    assert_eq!(seen.habits.broken, Broken::Expected, "{}: {self:?}", cut.error);
                    self.unanswered += u64::from(cut.sent);
                    sleep(BROKEN).await;
                }
            }
            assert!(Instant::now() < late, "it is never accepted: {}", self.id());
        }
    }

    /// The number in an event's id.
    pub(super) fn number_in(id: &str) -> Option<u64> {
        id.strip_prefix(IDS)?.parse().ok()
    }
}

/// What every id begins with; the number follows.
const IDS: &str = "00000000-0000-4000-8000-";

fn id(number: u64) -> String {
    format!("{IDS}{number:012}")
}

fn object(subject: u64) -> String {
    format!("00000000-0000-4000-9000-{subject:012}")
}
