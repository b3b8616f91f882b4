//! Whom a delivery belongs to.

use hookbus_core::SinkError;
use hookbus_journal::EntryId;

use crate::accept::RequestTicket;

/// Whom a delivery belongs to: by this a lane tells what became of it.
#[derive(Debug)]
pub(crate) enum Ticket {
    /// A request that waits for it, and withdraws what is not sent when it waits no longer.
    Request(RequestTicket),
    /// The journal: it is never withdrawn, and stays there until it is resolved.
    Journal(EntryId),
}

impl Ticket {
    /// The entry, where it is one of the journal.
    pub(super) fn entry(&self) -> Option<EntryId> {
        match self {
            Self::Request(_) => None,
            Self::Journal(id) => Some(*id),
        }
    }

    /// Marks the event as sent. Not, where its request withdrew it: then it must not be sent.
    pub(super) fn send(&self) -> bool {
        match self {
            Self::Request(request) => request.send(),
            Self::Journal(_) => true,
        }
    }

    /// Whether its request waits no longer.
    pub(super) fn is_withdrawn(&self) -> bool {
        match self {
            Self::Request(request) => request.is_withdrawn(),
            Self::Journal(_) => false,
        }
    }

    /// The event goes back into the queue. Not, where its request waits no longer.
    pub(super) fn again(&self, error: SinkError) -> bool {
        match self {
            Self::Request(request) => request.again(error),
            Self::Journal(_) => true,
        }
    }
}

impl From<RequestTicket> for Ticket {
    fn from(request: RequestTicket) -> Self {
        Self::Request(request)
    }
}
