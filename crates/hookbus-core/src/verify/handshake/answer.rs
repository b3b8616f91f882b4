//! What a handshake is answered.

use std::fmt;

use bytes::Bytes;
use http::StatusCode;

use super::rule::Rule;
use crate::verify::Refusal;

/// The answer to a handshake: to be sent, never to be published or logged. `Debug` hides the body.
#[derive(Clone, PartialEq, Eq)]
pub struct HandshakeAnswer {
    kind: &'static str,
    status: StatusCode,
    content_type: Option<&'static str>,
    body: Bytes,
}

impl HandshakeAnswer {
    /// The body of a request that is a handshake by its head is at most this long; nothing longer needs to be read.
    pub const MAX_REQUEST_BODY: usize = 4096;

    pub(super) fn new(
        kind: &'static str,
        status: StatusCode,
        content_type: Option<&'static str>,
        body: String,
    ) -> Self {
        Self { kind, status, content_type, body: body.into() }
    }

    /// Which handshake it was, such as `meta hub.challenge`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The media type of the body; none where there is no body.
    pub fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }

    /// The body, to the byte.
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

impl fmt::Debug for HandshakeAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeAnswer")
            .field("kind", &self.kind)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// An unsigned request that may be the provider's test of the URL.
#[derive(Clone, Copy)]
pub struct UnsignedProbe(&'static Rule);

impl UnsignedProbe {
    /// A probe's body is at most this long; nothing longer needs to be read.
    pub const MAX_BODY: usize = 16;

    pub(super) fn new(rule: &'static Rule) -> Self {
        Self(rule)
    }

    /// Whether the body is that of a probe, empty or `{}` with white space around, and the answer to it.
    ///
    /// # Errors
    /// [`Refusal::MissingHeader`] where it is anything else: the request should have been signed.
    pub fn check(self, body: &[u8]) -> Result<HandshakeAnswer, Refusal> {
        let body = if body.len() > Self::MAX_BODY { b"..." } else { body.trim_ascii() };
        if body.is_empty() || body == b"{}" {
            Ok(self.0.answer("", None))
        } else {
            Err(Refusal::MissingHeader)
        }
    }
}

impl fmt::Debug for UnsignedProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnsignedProbe({})", self.0.kind)
    }
}
