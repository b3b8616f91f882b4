//! What became of one event at one sink.

use std::{fmt, sync::Arc};

use crate::SinkError;

/// What became of one event. Made by its constructors, so that it can grow.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The destination took responsibility.
    #[non_exhaustive]
    Delivered {
        /// Where it is now, where the destination says so.
        position: Option<Position>,
    },
    /// Not known to be delivered, and worth another try.
    #[non_exhaustive]
    Retry {
        /// What happened.
        error: SinkError,
        /// Whether the destination may have it all the same, so that another try may make a duplicate.
        maybe_delivered: bool,
    },
    /// The destination will not take this event.
    #[non_exhaustive]
    Rejected {
        /// Why.
        error: SinkError,
    },
}

impl Outcome {
    /// The destination confirmed the event, at this position where it tells one.
    pub fn delivered(position: impl Into<Option<Position>>) -> Self {
        Self::Delivered { position: position.into() }
    }

    /// The event certainly did not arrive, but may the next time.
    pub fn retry(error: SinkError) -> Self {
        Self::Retry { error, maybe_delivered: false }
    }

    /// Nobody knows whether the event arrived.
    pub fn maybe_delivered(error: SinkError) -> Self {
        Self::Retry { error, maybe_delivered: true }
    }

    /// The destination refused the event for good.
    pub fn rejected(error: SinkError) -> Self {
        Self::Rejected { error }
    }
}

/// Where an event is now: a partition and offset, an entry id, a byte offset; shown to people, never parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct Position(Arc<str>);

impl Position {
    /// A position in the destination's own terms, such as `media/3@1047`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}
