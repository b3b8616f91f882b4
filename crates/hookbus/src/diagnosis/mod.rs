//! Why a request does not verify. Only for whoever has the secrets, at the command line; never for an answer over HTTP.

mod mistakes;
mod rejected;

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use hookbus_core::{Refusal, RequestHead, Scheme, Secret, VerifiedEvent, Verifier, verify::Examined};
use http::{HeaderMap, Method};

pub(crate) use mistakes::diagnose;
pub(crate) use rejected::explain;

/// A captured request.
#[derive(Clone)]
pub(crate) struct Captured {
    pub(crate) scheme: Arc<Scheme>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) url: Option<String>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) at: SystemTime,
}

impl Captured {
    /// Verifies this body with these secrets.
    pub(crate) fn verify(
        &self,
        scheme: Arc<Scheme>,
        secrets: &[Secret],
        body: &[u8],
    ) -> Result<VerifiedEvent, Refusal> {
        let (url, query) = match self.url.as_deref().map(|url| url.split_once('?').unwrap_or((url, ""))) {
            Some((url, "")) => (Some(url.to_owned()), None),
            Some((url, query)) => (Some(url.to_owned()), Some(query)),
            None => (None, None),
        };
        let (verifier, _) = Verifier::new("captured", scheme, url, secrets);
        match verifier.examine(RequestHead { method: &self.method, query, headers: &self.headers })? {
            Examined::Claim(claim) => claim.verify(Bytes::copy_from_slice(body), self.at),
            Examined::MaybeProbe(_) | Examined::Handshake(_) => Err(Refusal::MissingHeader),
        }
    }
}
