//! All open connections: their deadlines, and who goes at the limit.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::{
    body::LINGER,
    client::Sender,
    work::{Connection, Phase},
};
use crate::{
    config::{Limits, Timeouts},
    metrics::ConnectionMetrics,
};

/// How long a connection may take to end behind its last answer.
const CLOSING: Duration = LINGER.saturating_add(Duration::from_secs(1));

/// What holds for all of them now.
#[derive(Debug)]
struct Rules {
    limit: usize,
    per_address: usize,
    timeouts: Timeouts,
}

impl Rules {
    fn new(limits: &Limits, timeouts: &Timeouts) -> Self {
        let (limit, per_address) = (limits.connections.0, limits.per_address());
        Self { limit, per_address, timeouts: timeouts.clone() }
    }
}

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections {
    rules: ArcSwap<Rules>,
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
        Arc::new(Self {
            rules: ArcSwap::from_pointee(Rules::new(limits, timeouts)),
            metrics: Arc::clone(metrics),
            open: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// These limits and deadlines hold from now on, for those that are open too. None is closed for that.
    pub(super) fn set(&self, limits: &Limits, timeouts: &Timeouts) {
        self.rules.store(Arc::new(Rules::new(limits, timeouts)));
    }

    /// Lets a connection in. At a limit the longest idle one (of the same address, at that address's limit) is told
    /// to end, and the new one comes in beside it while it does; where none can go, or too many are ending, the new
    /// one stays out.
    ///
    /// A trusted proxy has no share: it opens connections for everybody.
    pub(super) fn admit(self: &Arc<Self>, peer: impl Into<Sender>) -> Option<Place> {
        let peer = peer.into();
        let mut open = self.lock();
        let is_full = open.all.len() - open.evicted >= self.rules.load().limit;
        self.make_room(&mut open, peer.share(), is_full)?;
        open.number += 1;
        let number = open.number;
        let connection = Arc::new(Connection::new(peer));
        open.all.insert(number, Arc::clone(&connection));
        open.join_address(&connection);
        self.metrics.opened();
        Some(Place { connections: Arc::clone(self), number, connection })
    }

    /// Tells one to end where one more of this share, or of all, would be too many. Nothing where none can.
    fn make_room(&self, open: &mut Open, share: Option<IpAddr>, is_full: bool) -> Option<()> {
        let Rules { limit, per_address, .. } = **self.rules.load();
        let of_share =
            share.filter(|share| open.by_address.get(share).is_some_and(|count| *count >= per_address));
        if of_share.is_none() && !is_full {
            return Some(());
        }
        if open.evicted >= limit.div_ceil(4) {
            return None;
        }
        let longest = open.longest_idle(of_share)?;
        open.evict(longest);
        self.metrics.closed_for_room();
        Some(())
    }

    /// Tells every connection that has overstayed its phase to end.
    pub(super) fn sweep(&self) {
        let timeouts = &self.rules.load().timeouts;
        for connection in self.lock().all.values() {
            let (phase, lasted) = connection.phase();
            let limit = match phase {
                Phase::Handshake => timeouts.handshake.get(),
                Phase::New => timeouts.first_byte.get(),
                Phase::Idle => timeouts.idle.get(),
                Phase::Head => timeouts.headers.get(),
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
        self.end_those(|connection| connection.is_multiplexed());
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
        let mine =
            self.all.iter().filter(|(_, connection)| only.is_none() || connection.sender().share() == only);
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
            connection.evict();
            self.evicted += 1;
            self.leave_address(&connection);
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

    fn join_address(&mut self, connection: &Connection) {
        if let Some(share) = connection.sender().share() {
            *self.by_address.entry(share).or_default() += 1;
        }
    }

    fn leave_address(&mut self, connection: &Connection) {
        let Some(share) = connection.sender().share() else { return };
        if let Some(count) = self.by_address.get_mut(&share) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&share);
            }
        }
    }
}

impl Place {
    /// Counts a connection of a trusted proxy towards the share of the client that the proxy names, as if that had come
    /// itself. False where there is no room for one more of it; then the connection is to end.
    pub(super) fn belongs_to(&self, client: Sender) -> bool {
        let mut open = self.connections.lock();
        // One that was told to end does not count any more, and one counts only once.
        if self.connection.is_evicted() || self.connection.is_named() {
            return false;
        }
        if self.connections.make_room(&mut open, client.share(), false).is_none() {
            return false;
        }
        self.connection.name(client);
        open.join_address(&self.connection);
        true
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
    use crate::{
        config::{Limits, Server},
        ingress::{client::Proxies, work::Work},
    };

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

    /// A trusted proxy at 127.0.0.9.
    fn proxies() -> Proxies {
        let trusted_proxies = vec!["127.0.0.9".parse().unwrap()];
        Proxies::new(&Server { trusted_proxies, ..Server::default() })
    }

    #[test]
    fn while_stopping_streams_are_left_to_end() {
        let connections = connections(3, 3);
        let [one, many, idle] =
            [1, 2, 3].map(|last| connections.admit(IpAddr::from([127, 0, 0, last])).unwrap());
        many.connection.multiplex();
        let _work = [&one, &many].map(|place| Work::begin(&place.connection));
        connections.end_multiplexed();
        assert!(told_to_end(&many) && !told_to_end(&one) && !told_to_end(&idle));
        connections.end_idle();
        assert!(told_to_end(&many) && !told_to_end(&one) && told_to_end(&idle));
        assert!(!many.connection.is_cut());
    }

    #[test]
    fn a_trusted_proxy_has_no_share() {
        let (connections, proxies) = (connections(8, 1), proxies());
        let proxy = proxies.sender([127, 0, 0, 9].into());
        let places: Vec<_> = (0..8).filter_map(|_| connections.admit(proxy)).collect();
        assert!(places.len() == 8 && !places.iter().any(told_to_end));
        drop(places);
        assert!(connections.lock().by_address.is_empty());
    }

    #[test]
    fn connections_of_a_proxy_count_towards_the_clients_it_names() {
        let (connections, proxies) = (connections(8, 2), proxies());
        let proxy = proxies.sender([127, 0, 0, 9].into());
        let [one, two] = [1, 2].map(|last| proxies.named([127, 0, 0, last].into()));
        let named = |client| {
            let place = connections.admit(proxy).unwrap();
            (place.belongs_to(client), place)
        };
        let (other, first, second) = (named(two), named(one), named(one));
        let _second = Work::begin(&second.1.connection);
        assert!(other.0 && first.0 && second.0 && !told_to_end(&first.1));
        let third = named(one);
        assert!(third.0 && told_to_end(&first.1) && !told_to_end(&other.1));
        assert_eq!(third.1.connection.sender(), one);
        let _third = Work::begin(&third.1.connection);
        let fourth = named(one);
        assert!(!fourth.0, "all of its share are at work");
        assert!(!told_to_end(&other.1) && !told_to_end(&second.1));
        assert!(named(two).0);
        drop((other, first, second, third, fourth));
        assert!(connections.lock().by_address.is_empty());
    }
}
