//! The one thing that travels through hookbus: an event whose sender was proved.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::{
    Trace, TraceId,
    cloudevent::STRUCTURED,
    form::{MaskedBody, View},
};

/// Headers a consumer needs to verify an event again, in the order of its scheme.
pub(crate) type ProofHeaders = SmallVec<[(HeaderName, HeaderValue); 4]>;

/// An event that verified under a secret of its source.
///
/// There is no way to make one but [`Claim::verify`](crate::Claim::verify), and [`VerifiedEvent::restore`] from a record
/// of one that was verified. Cloning shares the event and copies nothing, so that a fan-out to many sinks costs a
/// counter each.
#[derive(Clone)]
pub struct VerifiedEvent {
    inner: Arc<Inner>,
    /// What is shown in place of what was received: see [`VerifiedEvent::in_form`].
    view: Option<Arc<View>>,
}

/// What `verify` found out; only that module fills it in.
pub(crate) struct Inner {
    pub(crate) source: Arc<str>,
    pub(crate) id: EventId,
    pub(crate) event_type: Option<Box<str>>,
    pub(crate) subject: Option<Box<str>>,
    pub(crate) time: Option<EventTime>,
    pub(crate) received: SystemTime,
    pub(crate) proof: ProofHeaders,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) content_encoding: Option<HeaderValue>,
    pub(crate) unsigned: Arc<[&'static str]>,
    pub(crate) signed_method: Option<Box<str>>,
    pub(crate) signed_url: Option<Box<str>>,
    pub(crate) many: bool,
    /// None in records of before there were any.
    pub(crate) trace: Option<Trace>,
    pub(crate) body: Bytes,
}

impl VerifiedEvent {
    /// Seals what `verify` proved. Private to this crate: this is the promise *authentic*.
    pub(crate) fn seal(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), view: None }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn view(&self) -> Option<&View> {
        self.view.as_deref()
    }

    /// The event as it was received, whatever form it is in.
    #[must_use]
    pub fn as_received(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), view: None }
    }

    pub(crate) fn with_view(&self, view: View) -> Self {
        Self { inner: Arc::clone(&self.inner), view: Some(Arc::new(view)) }
    }

    /// Name of the source in the configuration, such as `fastpix`.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// The event's id and where it came from.
    pub fn id(&self) -> &EventId {
        &self.inner.id
    }

    /// The provider's event type; `unknown` where the request does not yield one.
    pub fn event_type(&self) -> &str {
        self.inner.event_type.as_deref().unwrap_or("unknown")
    }

    /// What the event is about (FastPix: the `object.id`); also the default key and the unit of order.
    pub fn subject(&self) -> Option<&str> {
        self.inner.subject.as_deref()
    }

    /// When the provider says it happened.
    pub fn time(&self) -> Option<EventTime> {
        self.inner.time
    }

    /// The event's time as every consumer sees it: the provider's, else when it arrived.
    pub fn timestamp(&self) -> EventTime {
        self.time().unwrap_or_else(|| EventTime::from(self.received()))
    }

    /// When the request arrived here.
    pub fn received(&self) -> SystemTime {
        self.inner.received
    }

    /// The body as received, byte for byte; of an event in another [form](VerifiedEvent::in_form) what is to be put at
    /// its destination.
    pub fn body(&self) -> &Bytes {
        match self.view() {
            Some(View { envelope: Some(body), .. } | View { masked: Some(MaskedBody { body, .. }), .. }) => {
                body
            }
            _ => &self.inner.body,
        }
    }

    /// Headers a consumer needs to verify the body again. Bearer headers (a token that *is* the secret) are never
    /// among them. A masked event has none, a structured one holds them in its body.
    pub fn proof_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let proof = if self.view.is_some() { &[] } else { &self.inner.proof[..] };
        proof.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    /// The request's `Content-Type`, where it is readable text; of a structured event that of the structured form.
    pub fn content_type(&self) -> Option<&str> {
        match self.is_structured() {
            true => Some(STRUCTURED),
            false => self.inner.content_type.as_ref().and_then(|value| value.to_str().ok()),
        }
    }

    /// The request's `Content-Encoding`: the body is forwarded as it came, so a consumer has to undo it.
    pub fn content_encoding(&self) -> Option<&str> {
        let encoding = self.inner.content_encoding.as_ref().filter(|_| self.view.is_none());
        encoding.and_then(|value| value.to_str().ok())
    }

    /// Whether it is shown as one JSON document that holds all of it.
    pub fn is_structured(&self) -> bool {
        self.view().is_some_and(|view| view.envelope.is_some())
    }

    /// The JSON pointers of what is masked in it, as a JSON array; nothing where nothing is.
    pub fn redacted(&self) -> Option<&str> {
        Some(&self.view()?.masked.as_ref()?.pointers)
    }

    /// The trace it belongs to. Events that were accepted before there were traces have none.
    pub fn trace(&self) -> Option<&Trace> {
        self.inner.trace.as_ref()
    }

    /// The id of its trace, for log lines.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace().map(Trace::id)
    }

    /// Attributes of this event that the signature does not cover, by their CloudEvents names.
    pub fn unsigned_attributes(&self) -> &[&'static str] {
        &self.inner.unsigned
    }

    /// The request method, where the scheme signs it.
    pub fn signed_method(&self) -> Option<&str> {
        self.inner.signed_method.as_deref()
    }

    /// The public URL, where the scheme signs it.
    pub fn signed_url(&self) -> Option<&str> {
        self.inner.signed_url.as_deref()
    }

    /// Whether the body carries other than exactly one event (an array of them).
    pub fn carries_many(&self) -> bool {
        self.inner.many
    }

    /// Bytes this event holds in memory, roughly: body, headers and names.
    pub fn size(&self) -> usize {
        let proof: usize = self.inner.proof.iter().map(|(n, v)| n.as_str().len() + v.len()).sum();
        let view = self.view().map_or(0, |view| {
            let masked = view.masked.as_ref().map_or(0, |masked| masked.body.len());
            masked + view.envelope.as_ref().map_or(0, Bytes::len)
        });
        let state = self.trace().and_then(Trace::state).map_or(0, str::len);
        self.inner.body.len()
            + view
            + proof
            + state
            + self.inner.id.text.len()
            + self.event_type().len()
            + 256
    }
}

impl fmt::Debug for VerifiedEvent {
    // Neither body nor proof: payloads and signatures stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedEvent")
            .field("source", &self.source())
            .field("id", &self.inner.id.text)
            .field("type", &self.event_type())
            .field("bytes", &self.inner.body.len())
            .finish_non_exhaustive()
    }
}

/// An event's id, as it appears in `ce_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventId {
    pub(crate) text: Box<str>,
    pub(crate) origin: IdOrigin,
}

impl EventId {
    /// The id as text, never empty.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it came from.
    pub fn origin(&self) -> IdOrigin {
        self.origin
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where an event's id came from; only a provider's id identifies a re-delivery for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdOrigin {
    /// The provider sent it.
    Provider,
    /// `digest:` and the SHA-256 of a body that is unique to its event.
    Digest,
    /// A UUIDv7 made when the request was accepted.
    Made,
}

/// A point in time with nanoseconds, shown as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventTime(jiff::Timestamp);

impl EventTime {
    pub(crate) fn from_millis(millis: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(millis).ok().map(Self)
    }

    /// Reads RFC 3339 with any offset; other ISO 8601 forms are refused.
    pub(crate) fn from_rfc3339(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        // jiff also reads forms that RFC 3339 does not have, such as a missing colon or a zone annotation.
        let shape =
            bytes.len() >= 20 && bytes.is_ascii() && bytes[4] == b'-' && matches!(bytes[10], b'T' | b't');
        (shape && !text.contains('[')).then(|| text.parse().ok().map(Self)).flatten()
    }

    /// Seconds and nanoseconds since 1970; both are negative before.
    pub(crate) fn to_parts(self) -> (i64, i32) {
        (self.0.as_second(), self.0.subsec_nanosecond())
    }

    pub(crate) fn from_parts(seconds: i64, nanos: i32) -> Option<Self> {
        jiff::Timestamp::new(seconds, nanos).ok().map(Self)
    }

    /// Seconds since 1970, rounded down, for comparing with a clock.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_millisecond().div_euclid(1000)
    }
}

impl From<SystemTime> for EventTime {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let since = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        Self(jiff::Timestamp::from_microsecond(since).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
