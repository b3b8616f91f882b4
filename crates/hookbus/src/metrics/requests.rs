//! What is counted of requests and connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use hookbus_core::Refusal;

use super::histogram::{DURATIONS, Histogram};

/// What a request was answered, in terms of what it means for its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// 200: every destination is taken care of.
    Accepted,
    /// 200: a re-delivery.
    Duplicate,
    /// 200: no route takes it.
    Ignored,
    /// A provider's test of the URL, answered as it wants.
    Handshake,
    /// 401: it did not verify; 403: a handshake that is not answered.
    Refused,
    /// 503: the source has no usable secret.
    AwaitingSecret,
    /// 413.
    BodyTooLarge,
    /// 408.
    RequestTimeout,
    /// 400: the body broke off.
    BrokenBody,
    /// 503: at a limit of requests or bytes.
    Busy,
    /// 503: the event is not safe.
    NotDelivered,
    /// 405.
    MethodNotAllowed,
    /// 404.
    NotFound,
    /// 400: the head is no HTTP.
    BrokenRequest,
    /// 414.
    UriTooLong,
    /// 431.
    HeadTooLarge,
    /// Nothing: its connection ended first.
    Abandoned,
    /// 429: too much came from its address in vain.
    AddressLimited,
    /// 429: its source sends more than it may.
    SourceLimited,
}

impl Answered {
    pub(crate) const ALL: [Self; 19] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Ignored,
        Self::Handshake,
        Self::Refused,
        Self::AwaitingSecret,
        Self::BodyTooLarge,
        Self::RequestTimeout,
        Self::BrokenBody,
        Self::Busy,
        Self::NotDelivered,
        Self::MethodNotAllowed,
        Self::NotFound,
        Self::BrokenRequest,
        Self::UriTooLong,
        Self::HeadTooLarge,
        Self::Abandoned,
        Self::AddressLimited,
        Self::SourceLimited,
    ];

    /// In snake case, as problems and metrics show it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Handshake => "handshake",
            Self::Refused => "refused",
            Self::AwaitingSecret => "awaiting_secret",
            Self::BodyTooLarge => "body_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::BrokenBody => "broken_body",
            Self::Busy => "busy",
            Self::NotDelivered => "not_delivered",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotFound => "not_found",
            Self::BrokenRequest => "broken_request",
            Self::UriTooLong => "uri_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::Abandoned => "abandoned",
            Self::AddressLimited => "address_limited",
            Self::SourceLimited => "source_limited",
        }
    }

    /// Whether a request with a source, or one without, can be answered so.
    fn is_possible(self, with_source: bool) -> bool {
        match self {
            Self::NotFound | Self::BrokenRequest | Self::UriTooLong | Self::HeadTooLarge => !with_source,
            Self::RequestTimeout | Self::Abandoned => true,
            _ => with_source,
        }
    }
}

/// The requests of one source, or of none.
#[derive(Debug)]
pub(crate) struct SourceMetrics {
    /// Its name; empty for requests that name no source.
    pub(super) source: Arc<str>,
    answers: [AtomicU64; Answered::ALL.len()],
    refusals: [AtomicU64; Refusal::ALL.len()],
    pub(super) duration: Histogram,
    pub(super) body_bytes: AtomicU64,
}

impl SourceMetrics {
    pub(crate) fn new(source: Arc<str>) -> Self {
        Self {
            source,
            answers: Default::default(),
            refusals: Default::default(),
            duration: Histogram::new(DURATIONS),
            body_bytes: AtomicU64::new(0),
        }
    }

    /// A request begins: its headers are there.
    pub(crate) fn begin(&self) -> Counting<'_> {
        Counting { metrics: self, begun: Instant::now(), answered: Answered::Abandoned }
    }

    /// A request that never began was answered: its head could not be read.
    pub(crate) fn answered(&self, answered: Answered) {
        self.answers[answered as usize].fetch_add(1, Relaxed);
    }

    /// A request did not verify.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize].fetch_add(1, Relaxed);
    }

    /// A body was read to its end.
    pub(crate) fn read(&self, body: usize) {
        self.body_bytes.fetch_add(body as u64, Relaxed);
    }

    /// Each answer that is possible here, with how often it was given.
    pub(super) fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let possible = Answered::ALL.into_iter().filter(|one| one.is_possible(!self.source.is_empty()));
        possible.map(|one| (one.as_str(), self.answers[one as usize].load(Relaxed)))
    }

    /// Each reason, with how often it was one.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL.into_iter().map(|one| (one.as_str(), self.refusals[one as usize].load(Relaxed)))
    }
}

/// A request that is worked on. Dropped without an answer it counts as abandoned.
pub(crate) struct Counting<'m> {
    metrics: &'m SourceMetrics,
    begun: Instant,
    answered: Answered,
}

impl Counting<'_> {
    /// The answer is known.
    pub(crate) fn answered(mut self, answered: Answered) {
        self.answered = answered;
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.metrics.answered(self.answered);
        self.metrics.duration.observe_duration(self.begun.elapsed());
    }
}

/// What is counted of connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionMetrics {
    pub(super) open: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) turned_away: AtomicU64,
    pub(super) closed_for_room: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) without_proxy_header: AtomicU64,
    handshakes: [AtomicU64; Handshake::ALL.len()],
}

/// What came of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// A connection.
    Done,
    /// The client and we could not agree.
    Failed,
    /// The client spoke HTTP in clear; it was told.
    PlainHttp,
    /// It took too long, or its connection ended.
    CutShort,
}

impl Handshake {
    pub(crate) const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::PlainHttp, Self::CutShort];

    /// In snake case, as metrics show it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::PlainHttp => "plain_http",
            Self::CutShort => "cut_short",
        }
    }
}

/// A handshake that goes on. Dropped before it ended it counts as cut short.
pub(crate) struct Handshaking<'m>(&'m ConnectionMetrics, Handshake);

impl Handshaking<'_> {
    /// What came of it is known.
    pub(crate) fn ended(&mut self, outcome: Handshake) {
        self.1 = outcome;
    }
}

impl Drop for Handshaking<'_> {
    fn drop(&mut self) {
        self.0.handshakes[self.1 as usize].fetch_add(1, Relaxed);
    }
}

impl ConnectionMetrics {
    /// A connection was let in.
    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Relaxed);
        self.accepted.fetch_add(1, Relaxed);
    }

    /// One that was let in has ended.
    pub(crate) fn ended(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// There was no place for one.
    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    /// One was told to end, so that another can come in.
    pub(crate) fn closed_for_room(&self) {
        self.closed_for_room.fetch_add(1, Relaxed);
    }

    /// A TLS handshake begins.
    pub(crate) fn handshake(&self) -> Handshaking<'_> {
        Handshaking(self, Handshake::CutShort)
    }

    /// Each outcome of a handshake, with how often it came to that.
    pub(super) fn handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Handshake::ALL.into_iter().map(|one| (one.as_str(), self.handshakes[one as usize].load(Relaxed)))
    }

    /// A trusted proxy sent no PROXY header, or a broken one.
    pub(crate) fn without_proxy_header(&self) {
        self.without_proxy_header.fetch_add(1, Relaxed);
    }

    /// Bytes arrived.
    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_the_order_of_their_numbers() {
        for (at, answered) in Answered::ALL.into_iter().enumerate() {
            assert_eq!(answered as usize, at);
        }
        for (at, handshake) in Handshake::ALL.into_iter().enumerate() {
            assert_eq!(handshake as usize, at);
        }
        for (at, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, at);
        }
    }

    #[test]
    fn a_request_that_is_dropped_counts_as_abandoned() {
        let metrics = SourceMetrics::new("fastpix".into());
        metrics.begin().answered(Answered::Accepted);
        drop(metrics.begin());
        let answers: Vec<_> = metrics.answers().filter(|(_, count)| *count > 0).collect();
        assert_eq!(answers, [("accepted", 1), ("abandoned", 1)]);
    }

    #[test]
    fn every_answer_is_possible_somewhere() {
        let of = |source: &str| SourceMetrics::new(source.into()).answers().count();
        assert_eq!((of("fastpix"), of("")), (15, 6));
        assert!(Answered::ALL.into_iter().all(|one| one.is_possible(true) || one.is_possible(false)));
    }
}
