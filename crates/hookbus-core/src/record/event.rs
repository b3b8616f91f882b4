//! An event as the content of a record, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;
use smallvec::SmallVec;
use thiserror::Error;

use super::Record;
use crate::{
    EventId, EventTime, IdOrigin, Trace, VerifiedEvent,
    event::{Inner, ProofHeaders},
};

/// The event of a record cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotRestored {
    /// The record is of a kind that holds none.
    #[error("the record holds no event")]
    NoEvent,
    /// It does not follow the format: another version wrote it.
    #[error("the event of the record cannot be read")]
    Unreadable,
}

/// Names of attributes that a signature may leave out.
const ATTRIBUTES: [&str; 7] = ["id", "type", "subject", "time", "datacontenttype", "contentencoding", "data"];

/// An event in the order it is written, borrowed both ways. Changing it changes the format.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    source: &'a str,
    id: &'a str,
    origin: u8,
    event_type: Option<&'a str>,
    subject: Option<&'a str>,
    /// Seconds and nanoseconds since 1970.
    time: Option<(i64, i32)>,
    received: (u64, u32),
    #[serde(borrow)]
    proof: SmallVec<[(&'a str, &'a Bytes); 4]>,
    #[serde(borrow)]
    content_type: Option<&'a Bytes>,
    #[serde(borrow)]
    content_encoding: Option<&'a Bytes>,
    /// One bit for each of [`ATTRIBUTES`].
    unsigned: u8,
    signed_method: Option<&'a str>,
    signed_url: Option<&'a str>,
    many: bool,
    #[serde(borrow)]
    body: &'a Bytes,
}

/// What stands behind an event, where it has any of it. Records of before it have nothing there.
#[derive(Serialize, Deserialize)]
struct Behind<'a> {
    trace: ([u8; 16], [u8; 8], u8),
    #[serde(borrow)]
    trace_state: Option<&'a str>,
    trace_began_here: bool,
}

impl VerifiedEvent {
    /// Makes the event of a record again. Beside [`Claim::verify`](crate::Claim::verify) this is the only way to an
    /// event: a [`Record`] only comes out of [`RecordKey::prove`](super::RecordKey::prove), and a record that holds an
    /// event was sealed from one.
    ///
    /// # Errors
    /// [`NotRestored`].
    pub fn restore(record: &Record<'_>) -> Result<Self, NotRestored> {
        if !record.head().kind.holds_event() {
            return Err(NotRestored::NoEvent);
        }
        let (written, rest) =
            postcard::take_from_bytes::<Written<'_>>(record.event()).map_err(|_| NotRestored::Unreadable)?;
        let trace = match rest.is_empty() {
            true => None,
            false => match postcard::take_from_bytes::<Behind<'_>>(rest) {
                Ok((behind, [])) => Some(behind.read()),
                _ => return Err(NotRestored::Unreadable),
            },
        };
        written.read(trace).map(Self::seal).ok_or(NotRestored::Unreadable)
    }

    /// Appends the event as [`VerifiedEvent::restore`] reads it.
    pub(super) fn write_record(&self, out: &mut Vec<u8>) {
        let inner = self.inner();
        let since = inner.received.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let unsigned = ATTRIBUTES.iter().enumerate();
        let unsigned = unsigned.filter(|(_, name)| inner.unsigned.contains(name));
        let written = Written {
            source: &inner.source,
            id: inner.id.as_str(),
            origin: match inner.id.origin() {
                IdOrigin::Provider => 0,
                IdOrigin::Digest => 1,
                IdOrigin::Made => 2,
            },
            event_type: inner.event_type.as_deref(),
            subject: inner.subject.as_deref(),
            time: inner.time.map(EventTime::to_parts),
            received: (since.as_secs(), since.subsec_nanos()),
            proof: inner
                .proof
                .iter()
                .map(|(name, value)| (name.as_str(), Bytes::new(value.as_bytes())))
                .collect(),
            content_type: inner.content_type.as_ref().map(bytes),
            content_encoding: inner.content_encoding.as_ref().map(bytes),
            unsigned: unsigned.fold(0, |bits, (at, _)| bits | 1 << at),
            signed_method: inner.signed_method.as_deref(),
            signed_url: inner.signed_url.as_deref(),
            many: inner.many,
            body: Bytes::new(&inner.body),
        };
        // Invariant: neither the types nor a `Vec` as the place they go to can refuse.
        let written = postcard::to_io(&written, &mut *out);
        debug_assert!(written.is_ok());
        if let Some(trace) = &inner.trace {
            let behind = Behind {
                trace: (trace.id, trace.parent, trace.flags),
                trace_state: trace.state(),
                trace_began_here: trace.began_here(),
            };
            let written = postcard::to_io(&behind, out);
            debug_assert!(written.is_ok());
        }
    }
}

impl Behind<'_> {
    fn read(self) -> Trace {
        let (id, parent, flags) = self.trace;
        Trace { id, parent, flags, state: self.trace_state.map(Box::from), began_here: self.trace_began_here }
    }
}

impl Written<'_> {
    fn read(self, trace: Option<Trace>) -> Option<Inner> {
        let header = |value: &Bytes| HeaderValue::from_bytes(value).ok();
        let mut proof = ProofHeaders::new();
        for (name, value) in self.proof {
            proof.push((HeaderName::from_bytes(name.as_bytes()).ok()?, header(value)?));
        }
        let origin = match self.origin {
            0 => IdOrigin::Provider,
            1 => IdOrigin::Digest,
            2 => IdOrigin::Made,
            _ => return None,
        };
        let unsigned = ATTRIBUTES.into_iter().enumerate().filter(|(at, _)| self.unsigned & 1 << at != 0);
        Some(Inner {
            source: self.source.into(),
            id: EventId { text: self.id.into(), origin },
            event_type: self.event_type.map(Box::from),
            subject: self.subject.map(Box::from),
            time: match self.time {
                Some((seconds, nanos)) => Some(EventTime::from_parts(seconds, nanos)?),
                None => None,
            },
            received: received(self.received)?,
            proof,
            content_type: self.content_type.map(header).map_or(Some(None), |value| value.map(Some))?,
            content_encoding: self
                .content_encoding
                .map(header)
                .map_or(Some(None), |value| value.map(Some))?,
            unsigned: unsigned.map(|(_, name)| name).chain(trace.iter().flat_map(Trace::unsigned)).collect(),
            signed_method: self.signed_method.map(Box::from),
            signed_url: self.signed_url.map(Box::from),
            many: self.many,
            trace,
            body: bytes::Bytes::copy_from_slice(self.body),
        })
    }
}

fn bytes(value: &HeaderValue) -> &Bytes {
    Bytes::new(value.as_bytes())
}

fn received((seconds, nanos): (u64, u32)) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos.min(999_999_999)))
}
