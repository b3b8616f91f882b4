//! What a sink can take.

use std::num::NonZeroUsize;

/// What a sink can take; its lane keeps to it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    max_batch: NonZeroUsize,
    max_batch_bytes: usize,
    max_in_flight: NonZeroUsize,
    accepts_prefix: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::new()
    }
}

impl Capabilities {
    /// 512 events or 4 MiB of bodies a batch, one batch in flight, no promise about order within a batch.
    pub const fn new() -> Self {
        Self {
            max_batch: at_least_one(512),
            max_batch_bytes: 4 << 20,
            max_in_flight: NonZeroUsize::MIN,
            accepts_prefix: false,
        }
    }

    /// At most so many events a batch (at least one).
    #[must_use]
    pub const fn max_batch(mut self, events: usize) -> Self {
        self.max_batch = at_least_one(events);
        self
    }

    /// At most so many bytes of bodies a batch; a single larger event still comes, alone.
    #[must_use]
    pub const fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// At most so many publish calls at once (at least one).
    #[must_use]
    pub const fn max_in_flight(mut self, batches: usize) -> Self {
        self.max_in_flight = at_least_one(batches);
        self
    }

    /// Promises that within one batch no later event of a group is accepted after an earlier one of it failed, so
    /// that several events of one group may come in one batch.
    #[must_use]
    pub const fn accepts_prefix(mut self) -> Self {
        self.accepts_prefix = true;
        self
    }

    /// The limit of events a batch.
    pub const fn batch_events(&self) -> usize {
        self.max_batch.get()
    }

    /// The limit of bytes a batch.
    pub const fn batch_bytes(&self) -> usize {
        self.max_batch_bytes
    }

    /// The limit of concurrent publish calls.
    pub const fn in_flight(&self) -> usize {
        self.max_in_flight.get()
    }

    /// Whether several events of one group may come in one batch.
    pub const fn takes_prefix(&self) -> bool {
        self.accepts_prefix
    }
}

const fn at_least_one(count: usize) -> NonZeroUsize {
    match NonZeroUsize::new(count) {
        Some(count) => count,
        None => NonZeroUsize::MIN,
    }
}
