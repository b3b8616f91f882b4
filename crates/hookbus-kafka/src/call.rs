//! One publish call, between the task that waits and the driver's thread that learns what became of each event.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::Notify;

/// What the driver said of one event: its partition and offset, or why not.
pub(crate) type Landing = Result<(i32, i64), RDKafkaErrorCode>;

/// What has landed of one publish call and was not looked at yet.
#[derive(Default)]
pub(crate) struct Call {
    landed: Mutex<Vec<(usize, Landing)>>,
    more: Notify,
}

/// The place of one event in its call; travels through the driver.
pub(crate) struct Slot {
    call: Arc<Call>,
    at: usize,
    place: Place,
}

/// The room in the queue of one producer.
///
/// Counted here, because the driver's own count goes down after its last word about an event, and nothing tells when:
/// whoever waited for that word could find the queue still full, and nobody to wait for. Half of the driver's queue is
/// given out, so what it has not let go of yet always fits beside it.
pub(crate) struct Room {
    limit: usize,
    held: AtomicUsize,
    freed: Notify,
}

/// A place in the queue, for as long as it is held.
pub(crate) struct Place(Arc<Room>);

impl Room {
    /// The room in a queue of so many events.
    pub(crate) fn in_queue(events: usize) -> Arc<Self> {
        Arc::new(Self { limit: (events / 2).max(1), held: AtomicUsize::new(0), freed: Notify::new() })
    }

    /// A place, where there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let more = |held: usize| (held < self.limit).then_some(held + 1);
        self.held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()
            .map(|_| Place(Arc::clone(self)))
    }

    /// Woken whenever a place is given back.
    pub(crate) fn freed(&self) -> &Notify {
        &self.freed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}

impl Call {
    /// What has landed since the last time.
    pub(crate) fn take(&self) -> Vec<(usize, Landing)> {
        std::mem::take(&mut *self.landed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something has landed that was not taken.
    pub(crate) async fn more(&self) {
        // A landing between the last `take` and this call has left its permit.
        self.more.notified().await;
    }
}

impl Slot {
    pub(crate) fn new(call: &Arc<Call>, at: usize, place: Place) -> Box<Self> {
        Box::new(Self { call: Arc::clone(call), at, place })
    }

    pub(crate) fn land(self, landing: Landing) {
        // First, so that whoever hears of the landing finds the room.
        drop(self.place);
        let mut landed = self.call.landed.lock().unwrap_or_else(PoisonError::into_inner);
        landed.push((self.at, landing));
        // Whoever waits was woken by the first, and takes all there are.
        if landed.len() == 1 {
            self.call.more.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_again_when_a_landing_is_heard_of() {
        let (room, call) = (Room::in_queue(4), Arc::<Call>::default());
        let slots: Vec<_> = (0..2).map(|at| Slot::new(&call, at, room.take().unwrap())).collect();
        assert!(room.take().is_none(), "the other half is the driver's");
        for slot in slots {
            slot.land(Ok((0, 0)));
        }
        assert_eq!(call.take().len(), 2);
        assert!(room.take().is_some() && Room::in_queue(0).take().is_some());
    }
}
