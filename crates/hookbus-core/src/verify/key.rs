//! From a displayed secret to a key, and from a key to a yes or no.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::VerifyingKey as Ed25519;
use hmac::{Hmac, KeyInit, Mac};
use p256::{
    ecdsa::{VerifyingKey as P256, signature::Verifier as _},
    pkcs8::DecodePublicKey as _,
};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::{
    header::Candidate,
    scheme::{Algorithm, KeyRule, KeyText},
};
use crate::Secret;

/// A key made ready once, so that a request costs no key set-up. Not `Debug`: it is a secret.
pub(super) enum Key {
    HmacSha256(Hmac<Sha256>),
    HmacSha1(Hmac<Sha1>),
    HmacSha512(Hmac<Sha512>),
    Ed25519(Box<Ed25519>),
    P256(Box<P256>),
    /// The token's digest, so that the comparison takes the same time for every length.
    Token([u8; 32]),
}

/// The bytes of a key as its scheme writes it down; says what is wrong without showing any of it.
pub(super) fn decode(rule: &KeyRule, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let text = secret.expose();
    let text = rule.strip.as_deref().and_then(|prefix| text.strip_prefix(prefix.as_bytes())).unwrap_or(text);
    if text.is_empty() {
        return Err("it is empty");
    }
    let bytes = match rule.decode {
        KeyText::Utf8 => text.to_vec(),
        KeyText::Base64 => STANDARD
            .decode(text)
            .map_err(|_| "it is not canonical base64 (standard alphabet, with padding)")?,
        KeyText::Hex => hex(text, true).ok_or("it is not an even number of hexadecimal digits")?,
    };
    Ok(Zeroizing::new(bytes))
}

/// Decodes hexadecimal digits; upper-case ones only where asked for.
pub(super) fn hex(text: &[u8], any_case: bool) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' if any_case => Some(byte - b'A' + 10),
        _ => None,
    };
    let pairs = text.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Key {
    /// The MAC of a message under this key; nothing where it makes none of this kind.
    pub(super) fn mac(&self, message: &[u8]) -> Option<[u8; 32]> {
        match self {
            Self::HmacSha256(mac) => Some(mac_of(mac, [message].into_iter()).into()),
            _ => None,
        }
    }

    pub(super) fn new(alg: Algorithm, rule: &KeyRule, secret: &Secret) -> Result<Self, &'static str> {
        let bytes = decode(rule, secret)?;
        // Invariant of the HMACs: they take keys of any length.
        const ANY_LENGTH: &str = "HMAC takes keys of any length";
        Ok(match alg {
            Algorithm::HmacSha256 => Self::HmacSha256(Hmac::new_from_slice(&bytes).expect(ANY_LENGTH)),
            Algorithm::HmacSha1 => Self::HmacSha1(Hmac::new_from_slice(&bytes).expect(ANY_LENGTH)),
            Algorithm::HmacSha512 => Self::HmacSha512(Hmac::new_from_slice(&bytes).expect(ANY_LENGTH)),
            Algorithm::Ed25519 => {
                let bytes = bytes.as_slice().try_into().map_err(|_| "it is not a public key of 32 bytes")?;
                let key = Ed25519::from_bytes(&bytes).map_err(|_| "it is not a point on the curve")?;
                if key.is_weak() {
                    return Err("it is a weak public key, under which anybody can sign");
                }
                Self::Ed25519(Box::new(key))
            }
            Algorithm::EcdsaP256Sha256 => {
                let key = P256::from_public_key_der(&bytes);
                Self::P256(Box::new(key.map_err(|_| "it is not a P-256 public key (SubjectPublicKeyInfo)")?))
            }
            Algorithm::Equality => Self::Token(Sha256::digest(&bytes).into()),
        })
    }

    /// Whether any candidate is this key's signature of the message. For HMACs every candidate is compared in
    /// constant time, and all of them whatever the first one says.
    pub(super) fn accepts<'a>(
        &self,
        candidates: impl Iterator<Item = &'a Candidate>,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        match self {
            Self::HmacSha256(mac) => any_equal(candidates, &mac_of(mac, pieces)),
            Self::HmacSha1(mac) => any_equal(candidates, &mac_of(mac, pieces)),
            Self::HmacSha512(mac) => any_equal(candidates, &mac_of(mac, pieces)),
            Self::Token(digest) => any_equal(candidates, digest),
            Self::Ed25519(key) => {
                let message = concat(pieces);
                candidates
                    .filter_map(|candidate| ed25519_dalek::Signature::from_slice(candidate.bytes()).ok())
                    .any(|signature| key.verify_strict(&message, &signature).is_ok())
            }
            Self::P256(key) => {
                let message = concat(pieces);
                candidates
                    .filter_map(|candidate| p256::ecdsa::Signature::from_der(candidate.bytes()).ok())
                    .any(|signature| key.verify(&message, &signature).is_ok())
            }
        }
    }
}

fn mac_of<'a, M: Mac + Clone>(keyed: &M, pieces: impl Iterator<Item = &'a [u8]>) -> hmac::digest::Output<M> {
    let mut mac = keyed.clone();
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes()
}

fn any_equal<'a>(candidates: impl Iterator<Item = &'a Candidate>, expected: &[u8]) -> bool {
    candidates.fold(Choice::from(0), |found, candidate| found | candidate.bytes().ct_eq(expected)).into()
}

fn concat<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    pieces.fold(Vec::new(), |mut message, piece| {
        message.extend_from_slice(piece);
        message
    })
}
