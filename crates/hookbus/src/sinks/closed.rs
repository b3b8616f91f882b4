//! Whether a sink was closed.

use std::sync::atomic::{AtomicBool, Ordering};

use hookbus_core::{ErrorKind, SinkError};

/// Open until it is closed, for good. A clone is another sink's, and open.
#[derive(Debug, Default)]
pub(super) struct Closed(AtomicBool);

impl Closed {
    pub(super) fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// # Errors
    /// [`ErrorKind::Closed`] once it is.
    pub(super) fn check(&self) -> Result<(), SinkError> {
        match self.0.load(Ordering::Acquire) {
            true => Err(SinkError::new(ErrorKind::Closed, "publish", "the sink was closed")),
            false => Ok(()),
        }
    }
}

impl Clone for Closed {
    fn clone(&self) -> Self {
        Self::default()
    }
}
