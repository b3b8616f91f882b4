//! The unit of work between a lane and its sink.

use std::{fmt, ops::Deref};

use super::Address;
use crate::VerifiedEvent;

/// An event and where this sink shall put it.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The event in the form it takes at this address: what a sink puts there.
    pub event: VerifiedEvent,
    /// The address, rendered and checked by the router.
    pub address: Address,
    group: Option<u64>,
}

impl Envelope {
    /// An event for this address, in the form it takes there, that belongs to no group.
    pub fn new(event: VerifiedEvent, address: Address) -> Self {
        let event = match address.form() {
            Some(form) => event.as_received().in_form(form),
            None => event,
        };
        Self { event, address, group: None }
    }

    /// The same as part of a group: what stays in order, as a hash. Groups whose hashes are equal only wait for each
    /// other needlessly.
    #[must_use]
    pub fn in_group(mut self, group: u64) -> Self {
        self.group = Some(group);
        self
    }

    /// The group, if it belongs to one: a sink that accepts a prefix takes no later event of a group in a batch after
    /// an earlier one of it failed.
    pub fn group(&self) -> Option<u64> {
        self.group
    }
}

/// Events handed to a sink at once, in the order they were accepted. Read it as a slice of [`Envelope`]s.
pub struct Batch(Box<[Envelope]>);

impl Batch {
    /// A batch of these events.
    pub fn new(envelopes: impl Into<Box<[Envelope]>>) -> Self {
        Self(envelopes.into())
    }

    /// The sum of the bodies, in bytes.
    pub fn body_bytes(&self) -> usize {
        self.0.iter().map(|envelope| envelope.event.body().len()).sum()
    }
}

impl Deref for Batch {
    type Target = [Envelope];

    fn deref(&self) -> &[Envelope] {
        &self.0
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} events)", self.len())
    }
}
