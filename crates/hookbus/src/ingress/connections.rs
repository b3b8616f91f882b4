//! All open connections: their phases and deadlines, and who goes at the limit.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::body::LINGER;
use crate::{
    config::{Limits, Timeouts},
    metrics::ConnectionMetrics,
};

/// How long a connection may take to end behind its last answer.
const CLOSING: Duration = LINGER.saturating_add(Duration::from_secs(1));
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
    peer: IpAddr,
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
    fn new(peer: IpAddr) -> Self {
        let (evicted, cut) = Default::default();
        Self { peer, doing: Mutex::new(Doing::new(Phase::New)), evicted, cut, end: Notify::new() }
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

    fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// The phase, and for how long.
    pub(super) fn phase(&self) -> (Phase, Duration) {
        let doing = self.doing();
        (doing.phase, doing.since.elapsed())
    }

    /// Whether it can be told to end although requests are in progress: those are answered, and no new one comes.
    fn ends_in_order(&self) -> bool {
        let doing = self.doing();
        doing.multiplexed || matches!(doing.phase, Phase::Handshake | Phase::New | Phase::Idle | Phase::Closing)
    }

    fn cut(&self) {
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
    answered: bool,
}

impl Work {
    /// A request begins: its head is there.
    pub(super) fn begin(connection: &Arc<Connection>) -> Self {
        connection.change(|doing| {
            doing.requests += 1;
            doing.between = Phase::Idle;
        });
        Self { connection: Arc::clone(connection), receiving: false, answered: false }
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

    /// Whether other requests may be in progress beside it.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.connection.doing().multiplexed
    }

    /// It was answered.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut flood = false;
        self.connection.change(|doing| {
            doing.requests -= 1;
            doing.receiving -= usize::from(self.receiving);
            doing.given_up = if self.answered { 0 } else { doing.given_up + 1 };
            flood = doing.multiplexed && doing.given_up >= GIVEN_UP;
        });
        if flood {
            self.connection.cut();
        }
    }
}

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    per_address: usize,
    timeouts: Timeouts,
    metrics: Arc<ConnectionMetrics>,
    open: Mutex<Open>,
    /// Told whenever one has ended.
    pub(super) ended: Notify,
}

#[derive(Debug, Default)]
struct Open {
    number: u64,
    all: HashMap<u64, Arc<Connection>>,
    by_address: HashMap<IpAddr, usize>,
    /// How many of all are ending to make room.
    evicted: usize,
}

/// A place among the open connections, given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
    pub(super) connection: Arc<Connection>,
}

impl Connections {
    pub(super) fn new(limits: &Limits, timeouts: &Timeouts, metrics: &Arc<ConnectionMetrics>) -> Arc<Self> {
        let (limit, per_address) = (limits.connections.0, limits.per_address());
        Arc::new(Self {
            limit,
            per_address,
            timeouts: timeouts.clone(),
            metrics: Arc::clone(metrics),
            open: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// Lets a connection in. At a limit the longest idle one (of the same address, at that address's limit) is told
    /// to end, and the new one comes in beside it while it does; where none can go, or too many are ending, the new
    /// one stays out.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let peer = network(peer);
        let mut open = self.lock();
        let of_peer = open.by_address.get(&peer).copied().unwrap_or_default();
        if of_peer >= self.per_address || open.all.len() - open.evicted >= self.limit {
            if open.evicted >= self.limit.div_ceil(4) {
                return None;
            }
            let only = (of_peer >= self.per_address).then_some(peer);
            let longest = open.longest_idle(only)?;
            open.evict(longest);
            self.metrics.closed_for_room();
        }
        open.number += 1;
        let number = open.number;
        let connection = Arc::new(Connection::new(peer));
        open.all.insert(number, Arc::clone(&connection));
        *open.by_address.entry(peer).or_default() += 1;
        self.metrics.opened();
        Some(Place { connections: Arc::clone(self), number, connection })
    }

    /// Tells every connection that has overstayed its phase to end.
    pub(super) fn sweep(&self) {
        for connection in self.lock().all.values() {
            let (phase, lasted) = connection.phase();
            let limit = match phase {
                Phase::Handshake => self.timeouts.handshake.get(),
                Phase::New => self.timeouts.first_byte.get(),
                Phase::Idle => self.timeouts.idle.get(),
                Phase::Head => self.timeouts.headers.get(),
                // The answer and what is left of an unwanted body have had their time.
                Phase::Closing => CLOSING,
                Phase::Body | Phase::Request => continue,
            };
            if lasted >= limit {
                connection.end.notify_one();
            }
        }
    }

    /// Tells every connection to end that speaks HTTP/2: its client is told to open no more streams, and those that
    /// are open are answered.
    pub(super) fn end_multiplexed(&self) {
        self.end_those(|connection| connection.doing().multiplexed);
    }

    /// Tells every connection to end that can do so in order, for the end of a drain: all without a request, and those
    /// that speak HTTP/2.
    pub(super) fn end_idle(&self) {
        self.end_those(Connection::ends_in_order);
    }

    fn end_those(&self, which: impl Fn(&Connection) -> bool) {
        self.lock().all.values().filter(|one| which(one)).for_each(|connection| connection.end.notify_one());
    }

    /// Ends all connections, whatever they are doing, and tells how many there were.
    pub(super) fn cut(&self) -> usize {
        let open = self.lock();
        for connection in open.all.values() {
            connection.cut();
        }
        open.all.len()
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.lock().all.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn longest_idle(&self, only: Option<IpAddr>) -> Option<u64> {
        let mine = self.all.iter().filter(|(_, connection)| only.is_none_or(|peer| connection.peer == peer));
        // One that is sending goes only where none is idle: slow senders must not keep others out. One whose request
        // is complete never goes.
        let rank = |connection: &Connection| match connection.phase() {
            _ if connection.is_evicted() => None,
            (Phase::Handshake | Phase::New | Phase::Idle | Phase::Closing, lasted) => Some((2, lasted)),
            (Phase::Head, lasted) => Some((1, lasted)),
            (Phase::Body, lasted) => Some((0, lasted)),
            (Phase::Request, _) => None,
        };
        mine.filter_map(|(number, connection)| Some((rank(connection)?, *number)))
            .max()
            .map(|(_, number)| number)
    }

    /// Tells a connection to end. It counts on its own until it has.
    fn evict(&mut self, number: u64) {
        if let Some(connection) = self.all.get(&number).cloned() {
            connection.evicted.store(true, Ordering::Release);
            // Only what was sending then: a request that has just come to an idle connection is answered.
            connection.cut.store(connection.phase().0 == Phase::Body, Ordering::Release);
            self.evicted += 1;
            self.leave_address(&connection);
            connection.end.notify_one();
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(connection) = self.all.remove(&number) else { return };
        if connection.is_evicted() {
            self.evicted -= 1;
        } else {
            self.leave_address(&connection);
        }
    }

    fn leave_address(&mut self, connection: &Connection) {
        if let Some(count) = self.by_address.get_mut(&connection.peer) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&connection.peer);
            }
        }
    }
}

/// What counts as one address: an IPv4 address, however it is written, or an IPv6 network of 64 bits, which one
/// customer has whole.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(peer) => Ipv6Addr::from_bits(peer.to_bits() >> 64 << 64).into(),
        peer => peer,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().remove(self.number);
        self.connections.metrics.ended();
        self.connections.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use hookbus_core::units;

    use super::*;
    use crate::config::Limits;

    fn connections(limit: usize, per_address: usize) -> Arc<Connections> {
        let count = |count: usize| count.try_into().unwrap();
        let connections_per_address = Some(count(per_address));
        let limits = Limits { connections: count(limit), connections_per_address, ..Limits::default() };
        let timeouts = Timeouts { idle: units::Duration::from_secs(1), ..Timeouts::default() };
        Connections::new(&limits, &timeouts, &Arc::default())
    }

    fn told_to_end(place: &Place) -> bool {
        use std::{
            future::Future,
            pin::pin,
            task::{Context, Waker},
        };
        pin!(place.connection.end.notified()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn at_the_limit_the_longest_idle_goes() {
        let (connections, [one, two, three]) =
            (connections(2, 2), [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last])));
        let (first, second) = (connections.admit(one).unwrap(), connections.admit(two).unwrap());
        let _first = Work::begin(&first.connection);
        let third = connections.admit(three).unwrap();
        assert!(told_to_end(&second) && !told_to_end(&first));
        let _third = Work::begin(&third.connection);
        assert!(connections.admit(two).is_none(), "all are at work");
        assert_eq!(connections.count(), 3, "the one that was told is still ending");
        drop((first, second, third));
        assert_eq!(connections.count(), 0);
        assert!(connections.lock().by_address.is_empty());
    }

    #[test]
    fn an_address_at_its_limit_costs_only_itself() {
        let (connections, [one, two]) =
            (connections(10, 1), [1, 2].map(|last| IpAddr::from([127, 0, 0, last])));
        let (first, other) = (connections.admit(one).unwrap(), connections.admit(two).unwrap());
        let _again = connections.admit(one).unwrap();
        assert!(told_to_end(&first) && !told_to_end(&other));
    }

    #[test]
    fn connections_that_do_not_end_keep_new_ones_out() {
        let (connections, peer) = (connections(8, 8), IpAddr::from([127, 0, 0, 1]));
        let places: Vec<_> = (0..100).filter_map(|_| connections.admit(peer)).collect();
        assert_eq!(places.len(), 8 + 2, "the limit, and a quarter of it that is ending");
    }

    #[test]
    fn a_connection_with_many_requests_is_idle_only_without_any() {
        let connections = connections(1, 1);
        let place = connections.admit(IpAddr::from([127, 0, 0, 1])).unwrap();
        let phase = || place.connection.phase().0;
        place.connection.multiplex();
        let (mut one, mut two) = (Work::begin(&place.connection), Work::begin(&place.connection));
        assert_eq!(phase(), Phase::Request);
        one.enter(Phase::Body);
        assert_eq!(phase(), Phase::Request, "the other one is worked on");
        two.enter(Phase::Body);
        assert_eq!(phase(), Phase::Body);
        place.connection.received();
        one.answered();
        assert_eq!(phase(), Phase::Body);
        two.enter(Phase::Request);
        assert_eq!(phase(), Phase::Request);
        drop(two);
        place.connection.received();
        assert_eq!(phase(), Phase::Idle, "bytes between requests may be anything");
    }

    #[test]
    fn a_client_that_only_gives_up_requests_is_cut_off() {
        let connections = connections(1, 1);
        let place = connections.admit(IpAddr::from([127, 0, 0, 1])).unwrap();
        place.connection.multiplex();
        let give_up = |times| (0..times).for_each(|_| drop(Work::begin(&place.connection)));
        give_up(GIVEN_UP - 1);
        Work::begin(&place.connection).answered();
        give_up(GIVEN_UP - 1);
        assert!(!place.connection.is_cut());
        give_up(1);
        assert!(place.connection.is_cut() && told_to_end(&place));
    }

    #[test]
    fn while_stopping_streams_are_left_to_end() {
        let connections = connections(3, 3);
        let [one, many, idle] = [1, 2, 3].map(|last| connections.admit(IpAddr::from([127, 0, 0, last])).unwrap());
        many.connection.multiplex();
        let _work = [&one, &many].map(|place| Work::begin(&place.connection));
        connections.end_multiplexed();
        assert!(told_to_end(&many) && !told_to_end(&one) && !told_to_end(&idle));
        connections.end_idle();
        assert!(told_to_end(&many) && !told_to_end(&one) && told_to_end(&idle));
        assert!(!many.connection.is_cut());
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:127.0.0.1"), of("127.0.0.1"));
    }
}
