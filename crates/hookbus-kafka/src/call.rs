//! One publish call, between the task that waits and the driver's thread that learns what became of each event.

use std::sync::{Arc, Mutex, PoisonError};

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
    pub(crate) fn new(call: &Arc<Call>, at: usize) -> Box<Self> {
        Box::new(Self { call: Arc::clone(call), at })
    }

    pub(crate) fn land(self, landing: Landing) {
        self.call.landed.lock().unwrap_or_else(PoisonError::into_inner).push((self.at, landing));
        self.call.more.notify_one();
    }
}
