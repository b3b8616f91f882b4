//! Signing like a provider does, for tests, demos and `hookbus send`.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer as _;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue, Method};
use p256::pkcs8::DecodePrivateKey as _;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use thiserror::Error;

use super::{
    Scheme, key,
    locate::{Locator, Locators},
    scheme::{Algorithm, Encoding, TimeUnit},
    template::SignedValues,
};
use crate::{EventTime, Secret};

/// A request to be signed.
#[derive(Clone, Copy, Debug)]
pub struct ToSign<'a> {
    /// The secret as the provider displays it. For public-key schemes: the private key (Ed25519: 32 bytes, or 64
    /// with the public key behind it, in the key's text form; P-256: PKCS #8).
    pub secret: &'a Secret,
    /// The method of the request.
    pub method: &'a Method,
    /// The full public URL, for schemes that sign it.
    pub url: &'a str,
    /// The event's id, for schemes that take it from a header.
    pub id: &'a str,
    /// The event's type, for schemes that take it from a header.
    pub event_type: &'a str,
    /// The time of signing.
    pub now: SystemTime,
    /// The body.
    pub body: &'a [u8],
}

/// The headers that make a request authentic.
pub type Signed = Vec<(HeaderName, HeaderValue)>;

/// Why a request could not be signed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// The secret is not a key of this scheme.
    #[error("the secret cannot be used to sign: {0}")]
    Secret(&'static str),
    /// A value does not fit into a header.
    #[error("{0} does not fit into a header")]
    Header(&'static str),
}

impl Scheme {
    /// Signs a request like the provider of this scheme would.
    ///
    /// # Errors
    /// [`SignError`] where the secret is no key of this scheme, or a value does not fit into a header.
    pub fn sign(&self, request: ToSign<'_>) -> Result<Signed, SignError> {
        let knobs = &self.knobs;
        let ts = knobs.ts.as_ref().map(|rule| stamp(rule.unit, request.now)).unwrap_or_default();
        let mut signed = Signed::new();
        let mut put = |name: &HeaderName, value: &str, what| {
            let value = HeaderValue::from_str(value).map_err(|_| SignError::Header(what))?;
            if !signed.iter().any(|(present, _)| present == name) {
                signed.push((name.clone(), value));
            }
            Ok(())
        };
        let first = |locators: &Locators| locators.headers().next().cloned();
        if let Some(name) = first(&knobs.id) {
            put(&name, request.id, "the id")?;
        }
        if let Some(name) = first(&knobs.event_type) {
            put(&name, request.event_type, "the type")?;
        }
        for (name, value) in &knobs.require {
            // Invariant: `check` refuses names that are no header names.
            put(&name.parse().map_err(|_| SignError::Header("a required name"))?, value, "a required value")?;
        }
        if let Some(Locator::Header(name)) = knobs.ts.as_ref().map(|rule| &rule.from) {
            put(name, &ts, "the timestamp")?;
        }
        let values = SignedValues {
            body: request.body,
            ts: ts.as_bytes(),
            id: request.id.as_bytes(),
            url: request.url.as_bytes(),
            method: request.method.as_str().as_bytes(),
        };
        let message = knobs.signed.pieces(values).collect::<Vec<_>>().concat();
        let signature = self.signature(request.secret, &message)?;
        let text = match knobs.sig.encoding {
            Encoding::Hex | Encoding::HexAnyCase => key::to_hex(&signature),
            Encoding::Base64 => STANDARD.encode(&signature),
            Encoding::Raw => String::from_utf8(signature).map_err(|_| SignError::Header("the token"))?,
        };
        let field = match knobs.ts.as_ref().map(|rule| &rule.from) {
            Some(Locator::Field(tag)) => Some((&**tag, ts.as_str())),
            _ => None,
        };
        let tagged = knobs.sig.tags.first().map(|tag| (tag.as_str(), text.as_str()));
        let kv = knobs.sig.kv_sep.map_or('=', |separator| separator.0);
        let items = field
            .into_iter()
            .chain(tagged)
            .map(|(tag, value)| format!("{tag}{kv}{value}"))
            .collect::<Vec<_>>();
        let separator = knobs.sig.item_sep.map(|separator| separator.0.to_string()).unwrap_or_default();
        let value = if items.is_empty() { text } else { items.join(&separator) };
        put(&knobs.sig.headers[0].0, &value, "the signature")?;
        Ok(signed)
    }

    fn signature(&self, secret: &Secret, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let key = key::decode(&self.knobs.key, secret).map_err(SignError::Secret)?;
        let ed25519 = || match key.as_slice().first_chunk::<32>() {
            Some(seed) if matches!(key.len(), 32 | 64) => Ok(ed25519_dalek::SigningKey::from_bytes(seed)),
            _ => Err(SignError::Secret("it is not a private key of 32 bytes")),
        };
        let p256 = || {
            p256::ecdsa::SigningKey::from_pkcs8_der(&key)
                .map_err(|_| SignError::Secret("it is not a P-256 private key (PKCS #8)"))
        };
        Ok(match self.knobs.alg {
            Algorithm::HmacSha256 => mac::<Hmac<Sha256>>(&key, message),
            Algorithm::HmacSha1 => mac::<Hmac<Sha1>>(&key, message),
            Algorithm::HmacSha512 => mac::<Hmac<Sha512>>(&key, message),
            Algorithm::Ed25519 => ed25519()?.sign(message).to_bytes().to_vec(),
            Algorithm::EcdsaP256Sha256 => {
                let signature: p256::ecdsa::Signature = p256()?.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Algorithm::Equality => key.to_vec(),
        })
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    // Invariant of the HMACs: they take keys of any length.
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn stamp(unit: TimeUnit, now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    match unit {
        TimeUnit::S => since.as_secs().to_string(),
        TimeUnit::Ms => since.as_millis().to_string(),
        TimeUnit::Rfc3339 => EventTime::from(now).to_string(),
    }
}
