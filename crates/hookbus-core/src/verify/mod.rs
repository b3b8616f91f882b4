//! Proving who sent a request.
//!
//! A provider's rules are a [`Scheme`]: data, not code. A [`Verifier`] is a scheme with the secrets of one source.
//! It works in two steps, so that a request without a sound signature is refused before its body is read:
//! [`Verifier::examine`] reads the head and yields a [`Claim`]; [`Claim::verify`] proves it against the body and is
//! the only way to a [`VerifiedEvent`](crate::VerifiedEvent). Where a provider tests the URL before it sends events,
//! [`Claim::receive`] tells its handshakes from events.
//!
//! The order is fixed: usable key, headers present and unique, header grammar and version, text form and length,
//! timestamp readable, signature (every key against every candidate, in constant time), timestamp window. The window
//! is looked at last, and a timestamp inside the body only behind the signature, so that whoever cannot sign learns
//! nothing from either.

mod claim;
mod clock;
mod handshake;
mod header;
mod key;
mod locate;
mod refusal;
mod scheme;
mod sign;
mod template;
mod verifier;

pub use claim::{Claim, Received};
pub use handshake::{HandshakeAnswer, UnsignedProbe};
pub use refusal::Refusal;
pub use scheme::{Algorithm, Scheme};
pub use sign::{SignError, Signed, ToSign};
pub use verifier::{Examined, RequestHead, UnusableSecret, Verifier};
