//! One event on its way to its destinations, and who waits for it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hookbus_core::{ErrorKind, SinkError, route::Destination};
use smallvec::SmallVec;
use tokio::{sync::Notify, time::Instant};

use super::memory::Identity;

/// The progress of one event at each of its destinations.
pub(super) struct Acceptance {
    identity: Option<Identity>,
    destinations: SmallVec<[Destination; 2]>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    slots: SmallVec<[Slot; 2]>,
    /// The request waits no longer: nothing more is sent for it.
    withdrawn: bool,
    /// The request is over: it has been answered, or its client is gone.
    over: bool,
}

/// How far the event is at one destination.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    /// Not sent; with the error of the last try.
    Queued(Option<SinkError>),
    /// Sent, and no answer yet; with the error of the try before.
    InFlight(Option<SinkError>),
    /// The destination took responsibility.
    Delivered,
    /// It will never take the event.
    Rejected { error: SinkError, tries: u32 },
    /// It does not have the event, or nobody knows; a re-delivery shall go there after so long.
    Missing { error: SinkError, after: Duration },
}

impl Slot {
    fn is_open(&self) -> bool {
        matches!(self, Self::Queued(_) | Self::InFlight(_))
    }
}

impl Acceptance {
    /// An event for these destinations; those of `delivered` have it already.
    pub(super) fn new(
        identity: Option<Identity>,
        destinations: SmallVec<[Destination; 2]>,
        delivered: impl Fn(&Destination) -> bool,
    ) -> Self {
        let slot = |destination| if delivered(destination) { Slot::Delivered } else { Slot::Queued(None) };
        let slots = destinations.iter().map(slot).collect();
        let state = Mutex::new(State { slots, withdrawn: false, over: false });
        Self { identity, destinations, state, changed: Notify::new() }
    }

    /// What tells the event from others, where anything does.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    pub(super) fn destination(&self, at: usize) -> &Destination {
        &self.destinations[at]
    }

    /// Each destination with how far the event is there.
    pub(super) fn slots(&self) -> Vec<(Destination, Slot)> {
        self.destinations.iter().cloned().zip(self.lock().slots.iter().cloned()).collect()
    }

    /// The destinations that have the event.
    pub(super) fn delivered(&self) -> impl Iterator<Item = &Destination> {
        let state = self.lock();
        let at: SmallVec<[usize; 4]> = state
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| matches!(slot, Slot::Delivered))
            .map(|(at, _)| at)
            .collect();
        at.into_iter().map(|at| &self.destinations[at])
    }

    /// Waits until every destination has said its word, or the deadline.
    pub(super) async fn resolved(&self, deadline: Instant) {
        self.wait(deadline, |state| state.slots.iter().all(|slot| !slot.is_open())).await;
    }

    /// Waits until the request is over and nothing of it is in flight; not, where the deadline comes first.
    pub(super) async fn settled(&self, deadline: Instant) -> bool {
        self.wait(deadline, State::is_settled).await
    }

    /// Whether every destination has the event.
    pub(super) fn all_delivered(&self) -> bool {
        self.lock().slots.iter().all(|slot| matches!(slot, Slot::Delivered))
    }

    /// Whether the request is over and nothing of it is in flight.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().is_settled()
    }

    /// Whether anything is queued or in flight.
    pub(super) fn is_open(&self) -> bool {
        self.lock().slots.iter().any(Slot::is_open)
    }

    async fn wait(&self, deadline: Instant, done: impl Fn(&State) -> bool) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listen before looking, so that no change falls between.
            changed.as_mut().enable();
            if done(&self.lock()) {
                return true;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }

    /// The request that waits: when it is dropped, what is not sent is withdrawn and the request is over.
    pub(super) fn request(self: &Arc<Self>) -> Waiter {
        Waiter(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, at: usize, change: impl FnOnce(&mut Slot)) {
        let all_said = {
            let mut state = self.lock();
            change(&mut state.slots[at]);
            !state.slots.iter().any(Slot::is_open)
        };
        if all_said {
            self.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().slots.iter()).finish()
    }
}

impl State {
    fn is_settled(&self) -> bool {
        self.over && self.slots.iter().all(|slot| !slot.is_open())
    }
}

/// See [`Acceptance::request`].
pub(super) struct Waiter(Arc<Acceptance>);

impl Waiter {
    /// The request waits no longer: what is not sent will not be.
    pub(super) fn withdraw(&self) {
        let mut state = self.0.lock();
        state.withdrawn = true;
        for slot in &mut state.slots {
            if let Slot::Queued(error) = slot {
                let late = || SinkError::new(ErrorKind::Timeout, "queue", "not sent within `ack-timeout`");
                *slot =
                    Slot::Missing { error: error.take().unwrap_or_else(late), after: Duration::from_secs(1) };
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.withdraw();
        self.0.lock().over = true;
        self.0.changed.notify_waiters();
    }
}

/// By this a lane tells what became of an event at one destination.
#[derive(Debug)]
pub(crate) struct RequestTicket {
    acceptance: Arc<Acceptance>,
    at: usize,
}

impl RequestTicket {
    pub(super) fn new(acceptance: &Arc<Acceptance>, at: usize) -> Self {
        Self { acceptance: Arc::clone(acceptance), at }
    }

    /// Marks the event as sent. Not, where its request withdrew it: then it must not be sent.
    pub(crate) fn send(&self) -> bool {
        let mut state = self.acceptance.lock();
        match &mut state.slots[self.at] {
            Slot::Queued(error) => {
                let error = error.take();
                state.slots[self.at] = Slot::InFlight(error);
                true
            }
            _ => false,
        }
    }

    /// Whether its request waits no longer.
    pub(crate) fn is_withdrawn(&self) -> bool {
        !self.acceptance.lock().slots[self.at].is_open()
    }

    /// The destination took responsibility.
    pub(crate) fn delivered(&self) {
        self.acceptance.update(self.at, |slot| *slot = Slot::Delivered);
    }

    /// The destination will never take the event.
    pub(crate) fn rejected(&self, error: SinkError, tries: u32) {
        self.acceptance.update(self.at, |slot| *slot = Slot::Rejected { error, tries });
    }

    /// The event will not be sent; a re-delivery may be, after so long.
    pub(crate) fn missing(&self, error: SinkError, after: Duration) {
        self.acceptance.update(self.at, |slot| *slot = Slot::Missing { error, after });
    }

    /// The event goes back into the queue. Not, where its request waits no longer: then it is missing. Both under one
    /// lock: between a look and a word the request could end, and nobody would withdraw the event any more.
    pub(crate) fn again(&self, error: SinkError) -> bool {
        let mut state = self.acceptance.lock();
        let waits = !state.withdrawn;
        state.slots[self.at] = match waits {
            true => Slot::Queued(Some(error)),
            false => Slot::Missing { error, after: Duration::from_secs(1) },
        };
        drop(state);
        if !waits {
            self.acceptance.changed.notify_waiters();
        }
        waits
    }

    /// A ticket nobody waits for, with the view on what becomes of it.
    #[cfg(test)]
    pub(crate) fn for_test(address: hookbus_core::Address) -> (Self, TestTicket) {
        let destinations = smallvec::smallvec![Destination { sink: 0, address }];
        let acceptance = Arc::new(Acceptance::new(None, destinations, |_| false));
        (Self { acceptance: Arc::clone(&acceptance), at: 0 }, TestTicket(acceptance))
    }
}

/// The waiting side of a [`RequestTicket`] in tests of lanes.
#[cfg(test)]
pub(crate) struct TestTicket(Arc<Acceptance>);

#[cfg(test)]
impl TestTicket {
    /// What became of it, in a word, once it is known.
    pub(crate) async fn word(&self) -> &'static str {
        let far = Instant::now() + Duration::from_secs(3600);
        self.0.resolved(far).await;
        self.now()
    }

    /// What is known of it now.
    pub(crate) fn now(&self) -> &'static str {
        match self.0.slots().remove(0).1 {
            Slot::Queued(_) => "queued",
            Slot::InFlight(_) => "in flight",
            Slot::Delivered => "delivered",
            Slot::Rejected { .. } => "rejected",
            Slot::Missing { .. } => "missing",
        }
    }

    /// The request waits no longer.
    pub(crate) fn withdraw(&self) {
        self.0.request().withdraw();
    }
}
