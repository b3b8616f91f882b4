//! What a connection is doing: the sum of its requests.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::client::Sender;

/// Requests that a client may give up on one connection without waiting for the answer of any. Beyond that it is after
/// the work they make, not after answers: opening a stream and resetting it costs it two small frames.
const GIVEN_UP: usize = 256;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// TLS is being agreed on.
    Handshake,
    /// No request was begun yet.
    New,
    /// Between two requests.
    Idle,
    /// A head is being received.
    Head,
    /// Bodies are being received, and nothing else is worked on; each has a deadline of its own.
    Body,
    /// A request is being worked on; its own deadlines apply.
    Request,
    /// The last answer is on its way.
    Closing,
}

/// One connection. Who works on it says what it is doing; a sweeper looks at all of them a few times a second, so that
/// no request costs a timer.
#[derive(Debug)]
pub(super) struct Connection {
    /// Who is at its other end.
    peer: Sender,
    /// Whose connection the proxy at its other end says it is.
    named: OnceLock<Sender>,
    doing: Mutex<Doing>,
    /// Told to end, to make room.
    evicted: AtomicBool,
    /// Told to end at once, whatever it is doing.
    cut: AtomicBool,
    /// Told to end.
    pub(super) end: Notify,
}

/// What a connection is doing, as the sum of its requests: in HTTP/2 there may be many at once.
#[derive(Debug)]
struct Doing {
    /// What it is doing while there is no request.
    between: Phase,
    /// Requests in progress.
    requests: usize,
    /// Those of them whose body is being received.
    receiving: usize,
    /// Requests that the client gave up since one was answered.
    given_up: usize,
    /// HTTP/2 is spoken.
    multiplexed: bool,
    phase: Phase,
    since: Instant,
}

impl Doing {
    fn new(phase: Phase) -> Self {
        let (requests, receiving, given_up) = (0, 0, 0);
        Self {
            between: phase,
            requests,
            receiving,
            given_up,
            multiplexed: false,
            phase,
            since: Instant::now(),
        }
    }
}

impl Connection {
    pub(super) fn new(peer: Sender) -> Self {
        let (named, evicted, cut) = Default::default();
        Self { peer, named, doing: Mutex::new(Doing::new(Phase::New)), evicted, cut, end: Notify::new() }
    }

    /// Who sends on it.
    pub(super) fn sender(&self) -> Sender {
        *self.named.get().unwrap_or(&self.peer)
    }

    /// The proxy at its other end says whose it is; the first word stands.
    pub(super) fn name(&self, client: Sender) {
        let _ = self.named.set(client);
    }

    /// Whether a proxy has said whose it is.
    pub(super) fn is_named(&self) -> bool {
        self.named.get().is_some()
    }

    /// What it is doing from now on, as long as there is no request.
    pub(super) fn enter(&self, phase: Phase) {
        self.change(|doing| doing.between = phase);
    }

    /// HTTP/2 is spoken from now on: bytes that arrive are no sign of a request, and there may be many requests.
    pub(super) fn multiplex(&self) {
        self.change(|doing| {
            doing.multiplexed = true;
            doing.between = Phase::Idle;
        });
    }

    /// A byte arrived: a request begins, where none was.
    pub(super) fn received(&self) {
        self.change(|doing| {
            if !doing.multiplexed && matches!(doing.phase, Phase::New | Phase::Idle) {
                doing.between = Phase::Head;
            }
        });
    }

    /// Whether it is to end at once: the grace period is over, it was sending a body when room was needed, or its
    /// client gives up one request after the other.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Tells it to end, to make room.
    pub(super) fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        // Only what was sending then: a request that has just come to an idle connection is answered.
        self.cut.fetch_or(self.phase().0 == Phase::Body, Ordering::AcqRel);
        self.end.notify_one();
    }

    /// Whether it was told to end to make room.
    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// The phase, and for how long.
    pub(super) fn phase(&self) -> (Phase, Duration) {
        let doing = self.doing();
        (doing.phase, doing.since.elapsed())
    }

    /// Whether it can be told to end although requests are in progress: those are answered, and no new one comes.
    pub(super) fn ends_in_order(&self) -> bool {
        let doing = self.doing();
        doing.multiplexed
            || matches!(doing.phase, Phase::Handshake | Phase::New | Phase::Idle | Phase::Closing)
    }

    /// Whether HTTP/2 is spoken.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.doing().multiplexed
    }

    /// Tells it to end at once.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.end.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut Doing)) {
        let mut doing = self.doing();
        change(&mut doing);
        let phase = match doing.between {
            Phase::Closing => Phase::Closing,
            _ if doing.requests > doing.receiving => Phase::Request,
            _ if doing.receiving > 0 => Phase::Body,
            between => between,
        };
        if phase != doing.phase {
            (doing.phase, doing.since) = (phase, Instant::now());
        }
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in progress: what it is doing counts towards what its connection is doing, until it is dropped.
#[derive(Debug)]
pub(super) struct Work {
    connection: Arc<Connection>,
    receiving: bool,
    end: End,
}

/// How a request ended, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its client did not wait for the answer.
    GivenUp,
    /// It did not even send its body to the end: there is nobody to hear the answer.
    BrokenOff,
    Answered,
}

impl Work {
    /// A request begins: its head is there.
    pub(super) fn begin(connection: &Arc<Connection>) -> Self {
        connection.change(|doing| {
            doing.requests += 1;
            doing.between = Phase::Idle;
        });
        Self { connection: Arc::clone(connection), receiving: false, end: End::GivenUp }
    }

    /// What it is doing from now on: [`Phase::Body`] while its body is received, [`Phase::Closing`] where its answer is
    /// the last of the connection, else [`Phase::Request`].
    pub(super) fn enter(&mut self, phase: Phase) {
        let receiving = phase == Phase::Body;
        self.connection.change(|doing| {
            doing.receiving = doing.receiving - usize::from(self.receiving) + usize::from(receiving);
            if phase == Phase::Closing {
                doing.between = phase;
            }
        });
        self.receiving = receiving;
    }

    /// Who sends it, as far as its connection tells.
    pub(super) fn sender(&self) -> Sender {
        self.connection.sender()
    }

    /// Whether other requests may be in progress beside it.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.connection.is_multiplexed()
    }

    /// Its body broke off: whatever is answered, its client has given it up.
    pub(super) fn broke_off(&mut self) {
        self.end = End::BrokenOff;
    }

    /// It was answered.
    pub(super) fn answered(mut self) {
        if self.end == End::GivenUp {
            self.end = End::Answered;
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut flood = false;
        self.connection.change(|doing| {
            doing.requests -= 1;
            doing.receiving -= usize::from(self.receiving);
            doing.given_up = if self.end == End::Answered { 0 } else { doing.given_up + 1 };
            flood = doing.multiplexed && doing.given_up >= GIVEN_UP;
        });
        if flood {
            self.connection.cut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_with_many_requests_is_idle_only_without_any() {
        let connection = Arc::new(Connection::new(std::net::IpAddr::from([127, 0, 0, 1]).into()));
        let phase = || connection.phase().0;
        connection.multiplex();
        let (mut one, mut two) = (Work::begin(&connection), Work::begin(&connection));
        assert_eq!(phase(), Phase::Request);
        one.enter(Phase::Body);
        assert_eq!(phase(), Phase::Request, "the other one is worked on");
        two.enter(Phase::Body);
        assert_eq!(phase(), Phase::Body);
        connection.received();
        one.answered();
        assert_eq!(phase(), Phase::Body);
        two.enter(Phase::Request);
        assert_eq!(phase(), Phase::Request);
        drop(two);
        connection.received();
        assert_eq!(phase(), Phase::Idle, "bytes between requests may be anything");
    }

    #[test]
    fn a_client_that_only_gives_up_requests_is_cut_off() {
        let connection = Arc::new(Connection::new(std::net::IpAddr::from([127, 0, 0, 1]).into()));
        connection.multiplex();
        let give_up = |times| (0..times).for_each(|_| drop(Work::begin(&connection)));
        give_up(GIVEN_UP - 1);
        Work::begin(&connection).answered();
        give_up(GIVEN_UP - 2);
        assert!(!connection.is_cut());
        // An answer to half a body is one that nobody waits for.
        let mut half = Work::begin(&connection);
        half.broke_off();
        half.answered();
        assert!(!connection.is_cut());
        give_up(1);
        assert!(connection.is_cut());
    }
}
