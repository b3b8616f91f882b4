//! What goes wrong now, for all connections of a proxy.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::watch;

use super::{Direction, Fault};

/// What goes wrong now, and what has passed so far.
#[derive(Debug)]
pub(super) struct Weather {
    now: watch::Sender<Now>,
    /// Bytes that still pass under a fault that begins after some; shared by all connections.
    allowance: Mutex<u64>,
    connections: AtomicU64,
    to_destination: AtomicU64,
    to_sink: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) fault: Option<Fault>,
    /// How often all connections were reset. A number, because whoever watches may miss a state that passes quickly.
    pub(super) cuts: u64,
}

impl Weather {
    pub(super) fn new() -> Self {
        Self {
            now: watch::Sender::new(Now { fault: None, cuts: 0 }),
            allowance: Mutex::new(0),
            connections: AtomicU64::new(0),
            to_destination: AtomicU64::new(0),
            to_sink: AtomicU64::new(0),
        }
    }

    pub(super) fn turn(&self, fault: Option<Fault>) {
        self.now.send_modify(|now| {
            // Under this lock, so that no connection sees the new fault with the old allowance.
            *self.allowance() = match fault {
                Some(Fault::CutAfter(_, bytes) | Fault::HoldAnswers { after: bytes }) => bytes,
                _ => 0,
            };
            let lost = now.fault == Some(Fault::LoseAnswers) && fault != now.fault;
            if fault == Some(Fault::Cut) || lost {
                now.cuts += 1;
            }
            now.fault = fault;
        });
    }

    /// Ends a fault that cuts after some bytes by cutting, once.
    pub(super) fn cut_now(&self) {
        self.now.send_if_modified(|now| {
            let due = matches!(now.fault, Some(Fault::CutAfter(..)));
            if due {
                (now.fault, now.cuts) = (None, now.cuts + 1);
            }
            due
        });
    }

    pub(super) fn watch(&self) -> watch::Receiver<Now> {
        self.now.subscribe()
    }

    /// How many of `wanted` bytes may still pass; they are used up.
    pub(super) fn take(&self, wanted: usize) -> usize {
        let mut left = self.allowance();
        let taken = wanted.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= taken as u64;
        taken
    }

    /// Whether nothing more may pass.
    pub(super) fn is_used_up(&self) -> bool {
        *self.allowance() == 0
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn passed(&self, direction: Direction, bytes: usize) {
        self.counter(direction).fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    pub(super) fn bytes(&self, direction: Direction) -> u64 {
        self.counter(direction).load(Relaxed)
    }

    fn counter(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToDestination => &self.to_destination,
            Direction::ToSink => &self.to_sink,
        }
    }

    fn allowance(&self) -> MutexGuard<'_, u64> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
