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

/// What tells an event from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    key: Key,
    /// Whether a later request with it is a re-delivery for certain: only an id of the provider's own says so. Two
    /// events may have equal bodies; a digest counts only until its event is safe.
    lasting: bool,
}

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
        let Some(identity) = self.identity(event) else {
            let acceptance = Acceptance::new(None, destinations.clone(), |_| false);
            return Remembered::Begun(Arc::new(acceptance), (0..destinations.len()).collect());
        };
        let mut state = self.lock();
        state.forget_old(Instant::now());
        let has: SmallVec<[u64; 2]> = match state.entries.get(&identity.key).map(|entry| &entry.progress) {
            Some(Progress::UnderWay(other)) => return Remembered::UnderWay(Arc::clone(other)),
            Some(Progress::Has(has)) => has.clone(),
            None => SmallVec::new(),
        };
        let had = |destination: &Destination| !has.is_empty() && has.contains(&self.hash(destination));
        let acceptance = Arc::new(Acceptance::new(Some(identity), destinations.clone(), had));
        let fresh = destinations.iter().enumerate().filter(|(_, to)| !had(to)).map(|(at, _)| at).collect();
        state.insert(identity.key, Progress::UnderWay(Arc::clone(&acceptance)));
        Remembered::Begun(acceptance, fresh)
    }

    /// The event is safe everywhere.
    pub(super) fn complete(&self, acceptance: &Arc<Acceptance>) {
        self.update(acceptance, acceptance.identity().is_some_and(|identity| !identity.lasting));
    }

    /// Nothing of that acceptance is under way any more, and the event is missing somewhere, or may be: a re-delivery
    /// shall go there.
    pub(super) fn settled(&self, acceptance: &Arc<Acceptance>) {
        if !acceptance.is_open() {
            self.update(acceptance, false);
        }
    }

    fn update(&self, acceptance: &Arc<Acceptance>, forget: bool) {
        let Some(Identity { key, .. }) = acceptance.identity() else { return };
        let has = acceptance.delivered().map(|destination| self.hash(destination)).collect();
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&key) else { return };
        // Only the acceptance that is under way may say so: its entry may have been forgotten and made anew.
        if matches!(&entry.progress, Progress::UnderWay(mine) if Arc::ptr_eq(mine, acceptance)) {
            entry.progress = Progress::Has(has);
            if forget {
                state.entries.remove(&key);
            }
        }
    }

    /// An identity for events that have one: not for ids of our own, nor where one body carries many events.
    fn identity(&self, event: &VerifiedEvent) -> Option<Identity> {
        let id = event.id();
        if id.origin() == IdOrigin::Made || event.carries_many() {
            return None;
        }
        let names = (event.source(), event.event_type(), id.as_str());
        let key = (self.hashers[0].hash_one(names), self.hashers[1].hash_one(names));
        Some(Identity { key, lasting: id.origin() == IdOrigin::Provider })
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
                Some(Progress::UnderWay(acceptance)) if !acceptance.is_settled() => {
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
