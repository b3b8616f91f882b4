//! What a re-delivery still needs: a memory of ten minutes or 65,536 events, whichever is less, lost on restart.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hookbus_core::{IdOrigin, VerifiedEvent, route::Destination};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::acceptance::Acceptance;

/// How long a re-delivery is recognised.
const KEEP_FOR: Duration = Duration::from_mins(10);
/// How many events are remembered; the oldest go first.
const KEEP: usize = 65_536;

/// Which destinations have an event already.
pub(super) struct Memory {
    state: Mutex<State>,
    hashers: [RandomState; 2],
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Entries in the order they were made, with when that was.
    order: VecDeque<(Instant, Key, u64)>,
    number: u64,
}

/// An event's identity: two keyed hashes of 64 bits over source, type and id.
type Key = (u64, u64);

struct Entry {
    number: u64,
    progress: Progress,
}

enum Progress {
    /// A request waits for it, or something of it is still in flight.
    UnderWay(Arc<Acceptance>),
    /// What has it, by hash; the rest is missing.
    Has(SmallVec<[u64; 2]>),
}

/// What is known of an event.
pub(super) enum Remembered {
    /// Nothing is under way: this acceptance is. It goes to the destinations at these places.
    Begun(Arc<Acceptance>, SmallVec<[usize; 2]>),
    /// Another request of the same event is not over yet.
    UnderWay(Arc<Acceptance>),
}

impl Default for Memory {
    fn default() -> Self {
        Self { state: Mutex::default(), hashers: [RandomState::new(), RandomState::new()] }
    }
}

impl Memory {
    /// Begins an acceptance, or finds the one that is under way.
    pub(super) fn begin(
        &self,
        event: &VerifiedEvent,
        destinations: &SmallVec<[Destination; 2]>,
    ) -> Remembered {
        let Some(key) = self.key(event) else {
            let acceptance = Acceptance::new(destinations.clone(), |_| false);
            return Remembered::Begun(Arc::new(acceptance), (0..destinations.len()).collect());
        };
        let mut state = self.lock();
        state.forget_old(Instant::now());
        let has: SmallVec<[u64; 2]> = match state.entries.get(&key).map(|entry| &entry.progress) {
            Some(Progress::UnderWay(other)) => return Remembered::UnderWay(Arc::clone(other)),
            Some(Progress::Has(has)) => has.clone(),
            None => SmallVec::new(),
        };
        let had = |destination: &Destination| has.contains(&self.hash(destination));
        let acceptance = Arc::new(Acceptance::new(destinations.clone(), had));
        let fresh = destinations.iter().enumerate().filter(|(_, to)| !had(to)).map(|(at, _)| at).collect();
        state.insert(key, Progress::UnderWay(Arc::clone(&acceptance)));
        Remembered::Begun(acceptance, fresh)
    }

    /// The event is safe everywhere. Only an id of the provider's own tells a later request to be a re-delivery of it.
    pub(super) fn complete(&self, event: &VerifiedEvent, acceptance: &Arc<Acceptance>) {
        let Some(key) = self.key(event) else { return };
        let has = acceptance.delivered().map(|destination| self.hash(destination)).collect();
        let mut state = self.lock();
        if !state.is_mine(&key, acceptance) {
            return;
        }
        if event.id().origin() == IdOrigin::Provider {
            state.update(key, Progress::Has(has));
        } else {
            state.entries.remove(&key);
        }
    }

    /// The event is missing somewhere, or may be: a re-delivery shall go there, once nothing is in flight.
    pub(super) fn missing(&self, event: &VerifiedEvent, acceptance: &Arc<Acceptance>) {
        if !acceptance.is_open() {
            self.settled(event, acceptance);
        }
    }

    /// Nothing of that acceptance is under way any more.
    pub(super) fn settled(&self, event: &VerifiedEvent, acceptance: &Arc<Acceptance>) {
        let Some(key) = self.key(event) else { return };
        let has = acceptance.delivered().map(|destination| self.hash(destination)).collect();
        let mut state = self.lock();
        if state.is_mine(&key, acceptance) {
            state.update(key, Progress::Has(has));
        }
    }

    /// An identity for events that have one: not for ids of our own, nor where one body carries many events.
    fn key(&self, event: &VerifiedEvent) -> Option<Key> {
        let id = event.id();
        if id.origin() == IdOrigin::Made || event.carries_many() {
            return None;
        }
        let identity = (event.source(), event.event_type(), id.as_str());
        Some((self.hashers[0].hash_one(identity), self.hashers[1].hash_one(identity)))
    }

    fn hash(&self, destination: &Destination) -> u64 {
        self.hashers[0].hash_one((destination.sink, &destination.address))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, key: Key, progress: Progress) {
        self.number += 1;
        let number = self.number;
        self.entries.insert(key, Entry { number, progress });
        self.order.push_back((Instant::now(), key, number));
    }

    fn update(&mut self, key: Key, progress: Progress) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.progress = progress;
        }
    }

    /// Whether this acceptance is the one under way for the event.
    fn is_mine(&self, key: &Key, acceptance: &Arc<Acceptance>) -> bool {
        let progress = self.entries.get(key).map(|entry| &entry.progress);
        matches!(progress, Some(Progress::UnderWay(mine)) if Arc::ptr_eq(mine, acceptance))
    }

    fn forget_old(&mut self, now: Instant) {
        // What is under way goes to the back of the line; it is bounded by the requests in progress.
        let mut under_way = 0;
        while let Some((since, key, number)) = self.order.front().copied() {
            let due = self.order.len() >= KEEP || now.saturating_duration_since(since) >= KEEP_FOR;
            if !due || under_way == self.order.len() {
                break;
            }
            self.order.pop_front();
            // A newer entry of the same event has a place of its own further back.
            match self.entries.get(&key).filter(|entry| entry.number == number).map(|entry| &entry.progress) {
                Some(Progress::UnderWay(acceptance)) if acceptance.is_open() => {
                    self.order.push_back((now, key, number));
                    under_way += 1;
                }
                Some(_) => {
                    self.entries.remove(&key);
                }
                None => {}
            }
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} events)", self.lock().entries.len())
    }
}
