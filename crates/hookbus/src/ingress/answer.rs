//! What a client is told: JSON for accepted events, problem+json (RFC 9457) for all else.

use std::time::Duration;

use bytes::Bytes;
use hookbus_core::{EventId, Refusal};
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;

use crate::{accept::Disposition, config::Respond, metrics::Answered};

pub(super) type Answer = Response<Full<Bytes>>;

/// A refusal in terms of HTTP. The `type` is `urn:hookbus:` and the reason.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    answered: Answered,
    reason: &'static str,
    detail: &'static str,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
}

impl Problem {
    const fn new(status: StatusCode, answered: Answered, detail: &'static str) -> Self {
        Self { status, answered, reason: answered.as_str(), detail, retry_after: None, allow: None }
    }

    const fn retry(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// There is nothing at this path.
    pub(super) const fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            Answered::NotFound,
            "webhooks are received at /hooks/{source} of a configured source",
        )
    }

    /// Only POST, and GET for handshakes.
    pub(super) const fn method(allow: &'static str) -> Self {
        let problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Answered::MethodNotAllowed,
            "webhooks are sent by POST",
        );
        Self { allow: Some(allow), ..problem }
    }

    /// The body is longer than `limits.body`.
    pub(super) const fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Answered::BodyTooLarge,
            "the body is longer than this server takes",
        )
    }

    /// The body did not come in time.
    pub(super) const fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, Answered::RequestTimeout, "the request did not arrive in time")
    }

    /// The head is not HTTP.
    pub(super) const fn broken_head() -> Self {
        Self::new(StatusCode::BAD_REQUEST, Answered::BrokenRequest, "the request is not well-formed HTTP")
    }

    /// HTTP where HTTPS is spoken.
    pub(super) const fn needs_tls() -> Self {
        let detail = "this port takes HTTPS; the address begins with https://";
        let problem = Self::new(StatusCode::BAD_REQUEST, Answered::BrokenRequest, detail);
        Self { reason: "tls_required", ..problem }
    }

    /// The request line is longer than the parser takes.
    pub(super) const fn uri_too_long() -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            Answered::UriTooLong,
            "the request's path is longer than this server takes",
        )
    }

    /// The head is longer than `limits.headers`.
    pub(super) const fn head_too_large() -> Self {
        let detail = "the headers are longer than this server takes";
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Answered::HeadTooLarge, detail)
    }

    /// The body broke off.
    pub(super) const fn broken() -> Self {
        Self::new(StatusCode::BAD_REQUEST, Answered::BrokenBody, "the body could not be read to its end")
    }

    /// At a limit of requests or bytes.
    pub(super) const fn busy() -> Self {
        let detail = "too much is in progress; send it again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Answered::Busy, detail).retry(Duration::from_secs(1))
    }

    /// Too much came from one address in vain.
    pub(super) const fn address_limited(wait: Duration) -> Self {
        let detail = "too many requests from this address were refused; send it again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, Answered::AddressLimited, detail).retry(wait)
    }

    /// The source sends more than `rate-limit`.
    pub(super) const fn source_limited(wait: Duration) -> Self {
        let detail = "this source sends more than it may; send it again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, Answered::SourceLimited, detail).retry(wait)
    }

    /// The source has no usable secret.
    pub(super) const fn awaiting_secret() -> Self {
        let detail = "this source has no usable secret yet; send it again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Answered::AwaitingSecret, detail)
            .retry(Duration::from_secs(60))
    }

    /// The event is not safe.
    pub(super) const fn not_accepted(retry_after: Duration) -> Self {
        let detail = "the event could not be delivered everywhere in time; send it again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Answered::NotDelivered, detail).retry(retry_after)
    }

    /// The request did not verify: its class, never what would have been right.
    pub(super) const fn refused(refusal: Refusal, reason: &'static str, detail: &'static str) -> Self {
        match refusal {
            Refusal::InvalidSecret => Self::awaiting_secret(),
            _ if refusal.is_of_handshake() => {
                Self { reason, ..Self::new(StatusCode::FORBIDDEN, Answered::Refused, detail) }
            }
            _ => Self { reason, ..Self::new(StatusCode::UNAUTHORIZED, Answered::Refused, detail) },
        }
    }

    /// The answer.
    pub(super) fn answer(&self) -> Answer {
        let mut answer = Response::new(Full::from(self.body()));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            // Rounded up: a sender that comes a moment too early comes for nothing.
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000).max(1) as u64));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }

    /// The status code.
    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Whether its client brought it about: it counts against the allowance of an address.
    pub(super) fn is_clients(&self) -> bool {
        // A provider that comes late with what is genuine is no forger.
        let is_late = Refusal::ALL.iter().any(|it| it.is_authentic() && it.as_str() == self.reason);
        self.status.is_client_error() && self.status != StatusCode::TOO_MANY_REQUESTS && !is_late
    }

    /// What it counts as.
    pub(super) fn answered(&self) -> Answered {
        self.answered
    }

    /// The reason in snake case.
    pub(super) fn reason(&self) -> &'static str {
        self.reason
    }

    /// The bytes of a whole HTTP/1.1 response, for connections that no request was read from.
    pub(super) fn raw(&self) -> Vec<u8> {
        let (head, body) = (last(self.answer()).into_parts().0, self.body());
        let mut bytes =
            format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", head.status, body.len()).into_bytes();
        for (name, value) in &head.headers {
            bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }

    fn body(&self) -> String {
        let (status, reason) = (self.status.as_u16(), self.reason);
        // All parts are texts of this program, none of which needs an escape.
        format!(
            r#"{{"type":"urn:hookbus:{reason}","title":"{}","status":{status},"detail":"{}","reason":"{reason}"}}"#,
            self.status.canonical_reason().unwrap_or_default(),
            self.detail
        )
    }
}

/// The same answer, behind which the connection ends.
pub(super) fn last(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The answer to an event that was taken over: that of its source, or its id and what became of it.
pub(super) fn accepted(respond: Option<&Respond>, id: &EventId, accepted: Disposition) -> (Answer, Answered) {
    let answered = match accepted {
        Disposition::Accepted => Answered::Accepted,
        Disposition::Duplicate => Answered::Duplicate,
        Disposition::Ignored => Answered::Ignored,
    };
    if let Some(respond) = respond {
        return (configured(respond), answered);
    }
    let mut body = Vec::with_capacity(96);
    body.extend_from_slice(b"{\"id\":");
    // Writing a string to a Vec cannot fail.
    let _ = serde_json::to_writer(&mut body, id.as_str());
    body.extend_from_slice(b",\"status\":\"");
    body.extend_from_slice(answered.as_str().as_bytes());
    body.extend_from_slice(b"\"}");
    (json_answer(body), answered)
}

fn configured(respond: &Respond) -> Answer {
    let mut answer = Response::new(Full::from(respond.body.clone()));
    *answer.status_mut() = respond.status;
    if let Some(content_type) = &respond.content_type {
        answer.headers_mut().insert(CONTENT_TYPE, content_type.clone());
    }
    answer
}

fn json_answer(body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::from(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
