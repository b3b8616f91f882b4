//! Reading a body within its limit, its deadline and the byte budget.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming, SizeHint};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    arriving::Arrival,
    budget::{Reservation, STEP},
};

/// Bytes of an unwanted body that are still read, so that its sender gets to read the answer.
const LINGER_BYTES: usize = 256 << 10;
/// How long that may take.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How long the rest of a short body may take before its connection is given up.
const SHORT_REST: Duration = Duration::from_millis(250);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Longer than the limit.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// The byte budget is used up.
    NoRoom,
    /// The client went away, or what it sent is no HTTP body.
    Broken,
}

/// A request's body, on its way.
#[derive(Debug)]
pub(super) struct Body {
    incoming: Incoming,
    framing: Framing,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length or its last chunk: HTTP/1.1. What ends before is an error.
    Message,
    /// By a flag on its stream: HTTP/2.
    Stream,
}

/// What a body may take.
pub(super) struct Terms<'r> {
    pub(super) limit: usize,
    pub(super) deadline: Instant,
    pub(super) room: &'r mut Reservation,
    pub(super) arrival: Arrival,
}

impl Body {
    pub(super) fn new(incoming: Incoming, framing: Framing) -> Self {
        Self { incoming, framing }
    }

    /// How long it says that it is.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    /// Whether there is nothing more of it.
    pub(super) fn is_at_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// Reads it.
    ///
    /// A body that arrives in one piece is passed on as it lies in the connection's buffer; one that comes in pieces is
    /// put together in memory that was reserved before.
    pub(super) async fn read(&mut self, terms: Terms<'_>) -> Result<Bytes, Unread> {
        let Terms { limit, deadline, room, arrival } = terms;
        tokio::select! {
            biased;
            read = self.collect(limit, deadline, room) => read,
            () = arrival.given_up() => Err(Unread::NoRoom),
        }
    }

    async fn collect(
        &mut self,
        limit: usize,
        deadline: Instant,
        room: &mut Reservation,
    ) -> Result<Bytes, Unread> {
        let mut whole: Option<Vec<u8>> = None;
        let mut first = Bytes::new();
        loop {
            let frame = match timeout_at(deadline, self.incoming.frame()).await {
                Err(_) => return Err(Unread::TooSlow),
                // The library takes a stream that was reset with the code for no error for one that is at its end.
                Ok(None) if self.framing == Framing::Stream && !self.is_at_end() => {
                    return Err(Unread::Broken);
                }
                Ok(None) => break,
                Ok(Some(Err(_))) => return Err(Unread::Broken),
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers are no part of what is signed.
            let Ok(data) = frame.into_data() else { continue };
            let so_far = whole.as_ref().map_or(first.len(), Vec::len);
            if data.len() > limit - so_far {
                return Err(Unread::TooLarge);
            }
            room.cover(so_far + data.len()).map_err(|_| Unread::NoRoom)?;
            if so_far == 0 && whole.is_none() {
                first = data;
                if self.is_at_end() {
                    break;
                }
                continue;
            }
            let whole = whole.get_or_insert_with(|| std::mem::take(&mut first).to_vec());
            let needed = whole.len() + data.len();
            if needed > whole.capacity() {
                // Step by step, not by doubling, and no further than the announced end: about what is reserved is held.
                let announced = self.size_hint().upper().and_then(|rest| usize::try_from(rest).ok());
                let end = announced.map_or(limit, |rest| needed.saturating_add(rest).min(limit));
                whole.reserve_exact(needed.saturating_add(STEP).min(end) - whole.len());
            }
            whole.extend_from_slice(&data);
        }
        let body = whole.map_or(first, |mut whole| {
            whole.shrink_to_fit();
            whole.into()
        });
        room.complete(body.len()).map_err(|_| Unread::NoRoom)?;
        Ok(body)
    }

    /// Reads the rest of a short body away, so that its connection can go on. Not, where it is long or does not come.
    pub(super) async fn skip_short(&mut self) -> bool {
        if self.is_at_end() {
            return true;
        }
        if self.size_hint().upper().is_none_or(|rest| rest > STEP as u64) {
            return false;
        }
        let rest = async {
            while let Some(frame) = self.incoming.frame().await {
                if frame.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(SHORT_REST, rest).await.unwrap_or(false)
    }

    /// Reads and drops the rest of a body that nobody wants, within bounds, so that the client can finish sending and
    /// read the answer instead of a reset. Its connection ends behind that answer.
    pub(super) fn discard(mut self) {
        if self.is_at_end() {
            return;
        }
        tokio::spawn(timeout(LINGER, async move {
            let mut left = LINGER_BYTES;
            while let Some(Ok(frame)) = self.incoming.frame().await {
                let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { break };
                left = rest;
            }
        }));
    }
}
