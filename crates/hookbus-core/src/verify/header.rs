//! The grammar of signature headers: items, tags and the text form of a signature.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::{
    Refusal, key,
    scheme::{Algorithm, Encoding, Knobs, SignatureRule},
};

/// More signatures than any provider sends during a rotation; more would only cost us work.
const MAX_CANDIDATES: usize = 16;

/// A decoded signature of the right length.
pub(crate) struct Candidate {
    bytes: [u8; 72],
    len: u8,
    /// Which signature header it came from, for schemes where each secret has its own.
    pub(super) header: u8,
}

impl Candidate {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What the signature headers say.
pub(super) struct SignatureHeaders<'a> {
    pub(super) candidates: SmallVec<[Candidate; 1]>,
    /// The value of the element a timestamp is taken from, where the scheme has one.
    pub(super) field: Option<&'a [u8]>,
}

/// The only value of a header.
pub(super) fn unique<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.as_bytes())),
        (Some(_), Some(_)) => Err(Refusal::DuplicateHeader),
    }
}

/// Reads all signature headers. `field` is the tag whose value is the timestamp.
pub(super) fn read<'a>(
    knobs: &Knobs,
    headers: &'a HeaderMap,
    field: Option<&str>,
) -> Result<SignatureHeaders<'a>, Refusal> {
    let mut found = Items::default();
    let mut present = false;
    for (at, header) in knobs.sig.headers.iter().enumerate() {
        if let Some(value) = unique(headers, &header.0)? {
            present = true;
            found.split(&knobs.sig, at, value, field)?;
        }
    }
    if !present {
        return Err(Refusal::MissingHeader);
    }
    if found.signatures.is_empty() {
        return Err(if found.other_tags { Refusal::UnsupportedVersion } else { Refusal::MalformedHeader });
    }
    if field.is_some() && found.field.is_none() {
        return Err(Refusal::MalformedHeader);
    }
    // An item that does not decode spoils no good one beside it.
    let decoded = found.signatures.iter().filter_map(|(at, text)| decode(knobs, *at, text));
    let candidates: SmallVec<[Candidate; 1]> = decoded.collect();
    if candidates.is_empty() {
        return Err(Refusal::BadEncoding);
    }
    Ok(SignatureHeaders { candidates, field: found.field })
}

#[derive(Default)]
struct Items<'a> {
    signatures: SmallVec<[(usize, &'a [u8]); 2]>,
    field: Option<&'a [u8]>,
    other_tags: bool,
}

impl<'a> Items<'a> {
    /// Splits one header's value. Values are split at the *first* separator, because base64 ends in `=`.
    fn split(
        &mut self,
        rule: &SignatureRule,
        header: usize,
        value: &'a [u8],
        field: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(separator) = rule.kv_sep else {
            for item in items(rule, value).filter(|item| !item.is_empty()) {
                self.push(header, item)?;
            }
            return Ok(());
        };
        for item in items(rule, value) {
            let Some((tag, value)) = split_once(item, separator.0) else { continue };
            if rule.tags.iter().any(|known| known.as_bytes() == tag) {
                if !value.is_empty() {
                    self.push(header, value)?;
                }
            } else if field.is_some_and(|field| field.as_bytes() == tag) {
                // Two timestamps in one header: which of them was signed would be a guess.
                if self.field.replace(value).is_some() {
                    return Err(Refusal::MalformedHeader);
                }
            } else {
                self.other_tags = true;
            }
        }
        Ok(())
    }

    fn push(&mut self, header: usize, value: &'a [u8]) -> Result<(), Refusal> {
        if self.signatures.len() == MAX_CANDIDATES {
            return Err(Refusal::MalformedHeader);
        }
        self.signatures.push((header, value));
        Ok(())
    }
}

/// The items of a value; a blank after the separator is what proxies put there when they fold a list.
fn items<'a>(rule: &SignatureRule, value: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let separator = rule.item_sep.and_then(|separator| u8::try_from(separator.0).ok());
    value.split(move |byte| separator == Some(*byte)).map(move |item| match separator {
        Some(_) => item.trim_ascii(),
        None => item,
    })
}

fn split_once(item: &[u8], separator: char) -> Option<(&[u8], &[u8])> {
    let at = item.iter().position(|byte| char::from(*byte) == separator)?;
    Some((&item[..at], &item[at + 1..]))
}

fn decode(knobs: &Knobs, header: usize, text: &[u8]) -> Option<Candidate> {
    let mut candidate = Candidate { bytes: [0; 72], len: 0, header: u8::try_from(header).ok()? };
    let len = match knobs.sig.encoding {
        Encoding::Base64 => STANDARD.decode_slice(text, &mut candidate.bytes).ok()?,
        encoding @ (Encoding::Hex | Encoding::HexAnyCase) => {
            let bytes = key::hex(text, encoding == Encoding::HexAnyCase)?;
            candidate.bytes.get_mut(..bytes.len())?.copy_from_slice(&bytes);
            bytes.len()
        }
        Encoding::Raw => {
            candidate.bytes[..32].copy_from_slice(&Sha256::digest(text));
            32
        }
    };
    let fits = match knobs.alg {
        Algorithm::HmacSha256 | Algorithm::Equality => len == 32,
        Algorithm::HmacSha1 => len == 20,
        Algorithm::HmacSha512 | Algorithm::Ed25519 => len == 64,
        // DER: a sequence of two integers of 1 to 33 bytes.
        Algorithm::EcdsaP256Sha256 => (8..=72).contains(&len) && candidate.bytes[0] == 0x30,
    };
    candidate.len = u8::try_from(len).ok()?;
    fits.then_some(candidate)
}
