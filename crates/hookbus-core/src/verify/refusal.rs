//! Why a request was refused.

use std::fmt;

/// Every reason a request can be refused for. The set is closed; an answer tells the reason and nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No configured secret is usable as a key.
    InvalidSecret,
    /// A header the scheme needs is not there.
    MissingHeader,
    /// A header the scheme reads is there twice; which one counts would be a guess.
    DuplicateHeader,
    /// A header does not have the scheme's form.
    MalformedHeader,
    /// The signature is of a version or kind this scheme does not take.
    UnsupportedVersion,
    /// The signature is not the canonical text of a signature of the right length.
    BadEncoding,
    /// The timestamp cannot be read.
    MalformedTimestamp,
    /// The signature does not belong to this body under any configured secret.
    SignatureMismatch,
    /// The request is authentic, but was signed too long ago.
    TimestampTooOld,
    /// The request is authentic, but signed for too far ahead.
    TimestampInFuture,
    /// The request is authentic, but its event is older than its source takes.
    EventTooOld,
    /// A handshake without anything to answer.
    MissingChallenge,
    /// The challenge of a handshake is not of a form that is returned.
    MalformedChallenge,
    /// A handshake without the verify token of the source.
    WrongVerifyToken,
}

impl Refusal {
    /// All reasons, for documentation and metrics.
    pub const ALL: [Self; 14] = [
        Self::InvalidSecret,
        Self::MissingHeader,
        Self::DuplicateHeader,
        Self::MalformedHeader,
        Self::UnsupportedVersion,
        Self::BadEncoding,
        Self::MalformedTimestamp,
        Self::SignatureMismatch,
        Self::TimestampTooOld,
        Self::TimestampInFuture,
        Self::EventTooOld,
        Self::MissingChallenge,
        Self::MalformedChallenge,
        Self::WrongVerifyToken,
    ];

    /// Whether it is about a handshake, not a signature.
    pub const fn is_of_handshake(self) -> bool {
        matches!(self, Self::MissingChallenge | Self::MalformedChallenge | Self::WrongVerifyToken)
    }

    /// Whether the signature was right all the same: the request is genuine, and only its time is not what it should be.
    pub const fn is_authentic(self) -> bool {
        matches!(self, Self::TimestampTooOld | Self::TimestampInFuture | Self::EventTooOld)
    }

    /// The reason in snake case, as answers, logs and metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSecret => "invalid_secret",
            Self::MissingHeader => "missing_header",
            Self::DuplicateHeader => "duplicate_header",
            Self::MalformedHeader => "malformed_header",
            Self::UnsupportedVersion => "unsupported_version",
            Self::BadEncoding => "bad_encoding",
            Self::MalformedTimestamp => "malformed_timestamp",
            Self::SignatureMismatch => "signature_mismatch",
            Self::TimestampTooOld => "timestamp_too_old",
            Self::TimestampInFuture => "timestamp_in_future",
            Self::EventTooOld => "event_too_old",
            Self::MissingChallenge => "missing_challenge",
            Self::MalformedChallenge => "malformed_challenge",
            Self::WrongVerifyToken => "wrong_verify_token",
        }
    }

    /// The reason in one sentence for a person.
    pub fn explain(self) -> &'static str {
        match self {
            Self::InvalidSecret => "no configured secret of this source is usable as a key",
            Self::MissingHeader => "a header that the signature scheme needs is missing",
            Self::DuplicateHeader => "a header of the signature scheme is present more than once",
            Self::MalformedHeader => "a signature header does not have the form the scheme prescribes",
            Self::UnsupportedVersion => "the signature is of a version this source does not accept",
            Self::BadEncoding => "the signature is not in the scheme's text form, or not of its length",
            Self::MalformedTimestamp => "the timestamp cannot be read",
            Self::SignatureMismatch => "the signature does not match the body under any configured secret",
            Self::TimestampTooOld => "the request was signed too long ago",
            Self::TimestampInFuture => "the request's timestamp lies too far in the future",
            Self::EventTooOld => "the event happened longer ago than this source takes",
            Self::MissingChallenge => {
                "this is no handshake of the source's provider: there is no challenge in it"
            }
            Self::MalformedChallenge => "the challenge of this handshake is not of a form that is answered",
            Self::WrongVerifyToken => "this handshake does not have the verify token of the source",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explain())
    }
}

impl std::error::Error for Refusal {}
