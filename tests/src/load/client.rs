//! One connection: sends a request, reads its answer, and counts.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time};

use super::{
    events::Events,
    histogram::Histogram,
    pace::{Pace, Turn},
    response::{Answer, Reader},
};

/// How long after the end an answer may still come.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a failed connection: a dead server should cost errors, not a core.
const PAUSE: Duration = Duration::from_millis(10);

/// What connections counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) latencies: Histogram,
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Connections that could not be made or broke, by what was said.
    pub(super) errors: BTreeMap<String, u64>,
    /// Requests sent whose answer never came in time.
    pub(super) unanswered: u64,
    /// When the last answer came.
    pub(super) last: Option<Instant>,
}

impl Tally {
    pub(super) fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.last = self.last.max(other.last);
    }
}

/// A connection and its counts.
#[derive(Debug)]
pub(super) struct Client {
    target: SocketAddr,
    pace: Arc<Pace>,
    events: Arc<Events>,
    stream: Option<TcpStream>,
    reader: Reader,
    tally: Tally,
}

impl Client {
    pub(super) fn new(target: SocketAddr, pace: Arc<Pace>, events: Arc<Events>) -> Self {
        Self { target, pace, events, stream: None, reader: Reader::default(), tally: Tally::default() }
    }

    /// Connects if it is not; a failure is counted.
    pub(super) async fn connect(&mut self) {
        if self.stream.is_some() {
            return;
        }
        let connected = TcpStream::connect(self.target).await;
        match connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => self.stream = Some(stream),
            Err(error) => *self.tally.errors.entry(format!("connect: {error}")).or_default() += 1,
        }
    }

    /// Sends what is due until nothing is.
    pub(super) async fn run(mut self) -> Tally {
        // One deadline for the whole run: a timer per request would cost more than the request.
        let deadline = self.pace.end() + GRACE;
        let mut pending = false;
        let all = async {
            while let Some(turn) = self.pace.turn().await {
                pending = true;
                self.send(turn).await;
                pending = false;
            }
        };
        let late = time::timeout_at(deadline.into(), all).await.is_err();
        self.tally.unanswered += u64::from(late && pending);
        self.tally
    }

    async fn send(&mut self, turn: Turn) {
        self.connect().await;
        let Some(stream) = &mut self.stream else { return time::sleep(PAUSE).await };
        let exchange = async {
            stream.write_all(self.events.request(turn.number)).await?;
            self.reader.read(stream).await
        };
        match exchange.await {
            Ok(Answer { status, closes }) => {
                let now = Instant::now();
                self.tally.latencies.record(now.saturating_duration_since(turn.due));
                *self.tally.statuses.entry(status).or_default() += 1;
                self.tally.last = Some(now);
                if closes {
                    self.stream = None;
                }
            }
            Err(error) => {
                self.stream = None;
                *self.tally.errors.entry(error.to_string()).or_default() += 1;
                time::sleep(PAUSE).await;
            }
        }
    }
}
