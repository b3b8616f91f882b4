//! All open connections: their phases and deadlines, and who goes at the limit.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::config::{Limits, Timeouts};

/// What a connection is doing. The value is stored beside the time it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was received yet.
    New = 0,
    /// Between two requests.
    Idle = 1,
    /// A head is being received.
    Head = 2,
    /// A request is being worked on; its own deadlines apply.
    Request = 3,
}

/// One connection. It changes its phase with a single store; a sweeper looks at all of them a few times a second,
/// so that no request costs a timer.
#[derive(Debug)]
pub(super) struct Connection {
    peer: IpAddr,
    started: Instant,
    /// Milliseconds since `started` in the upper bits, the phase in the lowest two.
    state: AtomicU64,
    /// Told to end.
    pub(super) end: Notify,
}

impl Connection {
    pub(super) fn enter(&self, phase: Phase) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.state.store(millis << 2 | phase as u64, Ordering::Release);
    }

    /// A byte arrived: a request begins, where none was.
    pub(super) fn received(&self) {
        if matches!(self.phase().0, Phase::New | Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    /// The phase, and for how long.
    pub(super) fn phase(&self) -> (Phase, Duration) {
        let state = self.state.load(Ordering::Acquire);
        let phase = [Phase::New, Phase::Idle, Phase::Head, Phase::Request][(state & 3) as usize];
        (phase, self.started.elapsed().saturating_sub(Duration::from_millis(state >> 2)))
    }
}

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    per_address: usize,
    timeouts: Timeouts,
    open: Mutex<Open>,
    /// Told whenever one has ended.
    pub(super) ended: Notify,
}

#[derive(Debug, Default)]
struct Open {
    number: u64,
    all: HashMap<u64, Arc<Connection>>,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among the open connections, given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
    pub(super) connection: Arc<Connection>,
}

impl Connections {
    pub(super) fn new(limits: &Limits, timeouts: &Timeouts) -> Arc<Self> {
        let (limit, per_address) = (limits.connections.0, limits.per_address());
        Arc::new(Self {
            limit,
            per_address,
            timeouts: timeouts.clone(),
            open: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// Lets a connection in. At a limit the longest idle one (of the same address, at that address's limit) is told
    /// to end, and the new one comes in beside it; where none is idle the new one stays out.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let of_peer = open.by_address.get(&peer).copied().unwrap_or_default();
        if of_peer >= self.per_address || open.all.len() >= self.limit {
            let only = (of_peer >= self.per_address).then_some(peer);
            let idle = open.longest_idle(only)?;
            if let Some(idle) = open.remove(idle) {
                idle.end.notify_one();
            }
        }
        open.number += 1;
        let number = open.number;
        let connection = Arc::new(Connection {
            peer,
            started: Instant::now(),
            state: AtomicU64::new(0),
            end: Notify::new(),
        });
        open.all.insert(number, Arc::clone(&connection));
        *open.by_address.entry(peer).or_default() += 1;
        Some(Place { connections: Arc::clone(self), number, connection })
    }

    /// Tells every connection that has overstayed its phase to end.
    pub(super) fn sweep(&self) {
        for connection in self.lock().all.values() {
            let (phase, lasted) = connection.phase();
            let limit = match phase {
                Phase::New => self.timeouts.first_byte,
                Phase::Idle => self.timeouts.idle,
                Phase::Head => self.timeouts.headers,
                Phase::Request => continue,
            };
            if lasted >= limit.get() {
                connection.end.notify_one();
            }
        }
    }

    /// Tells every connection without a request to end, for the end of a drain.
    pub(super) fn end_idle(&self) {
        for connection in self.lock().all.values() {
            if matches!(connection.phase().0, Phase::New | Phase::Idle) {
                connection.end.notify_one();
            }
        }
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
        // One that is sending a head is only taken where none is idle: slow heads must not keep others out.
        let rank = |connection: &Connection| match connection.phase() {
            (Phase::New | Phase::Idle, lasted) => Some((1, lasted)),
            (Phase::Head, lasted) => Some((0, lasted)),
            (Phase::Request, _) => None,
        };
        mine.filter_map(|(number, connection)| Some((rank(connection)?, *number)))
            .max()
            .map(|(_, number)| number)
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let connection = self.all.remove(&number)?;
        if let Some(count) = self.by_address.get_mut(&connection.peer) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&connection.peer);
            }
        }
        Some(connection)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().remove(self.number);
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
        Connections::new(&limits, &timeouts)
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
        first.connection.enter(Phase::Request);
        let third = connections.admit(three).unwrap();
        assert!(told_to_end(&second) && !told_to_end(&first));
        third.connection.enter(Phase::Request);
        assert!(connections.admit(two).is_none(), "all are at work");
        assert_eq!(connections.count(), 2);
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
}
