//! An event as a consumer finds it at a destination.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hookbus_core::{RequestHead, VerifiedEvent, verify::Examined};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::value::RawValue;

use crate::event::verifier;

/// An event as a consumer finds it at a destination.
#[derive(Clone, PartialEq, Eq)]
pub struct Observed {
    /// The CloudEvents attributes by their plain names: `id`, `type`, `source` and so on, without any prefix that the
    /// destination's binding puts before them.
    pub attributes: BTreeMap<String, String>,
    /// The proof headers, names in lower case.
    pub proof: Vec<(String, Vec<u8>)>,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Observed {
    /// What a consumer should find of this event.
    pub fn of(event: &VerifiedEvent) -> Self {
        let mut attributes = BTreeMap::new();
        event.attributes(|name, value| {
            attributes.insert(name.to_owned(), value.to_owned());
        });
        let proof = event.proof_headers().map(|(name, value)| (name.to_owned(), value.to_vec()));
        Self { attributes, proof: proof.collect(), body: event.body().clone() }
    }

    /// Reads the structured form, as [`VerifiedEvent::write_structured`] writes it.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub fn from_structured(line: &[u8]) -> Result<Self, String> {
        // Raw values, because a body must come back byte for byte, and a parsed one would not.
        let mut members: BTreeMap<String, &RawValue> =
            serde_json::from_slice(line).map_err(|error| format!("not a JSON object: {error}"))?;
        let body = match (members.remove("data"), members.remove("data_base64")) {
            (Some(data), None) => Bytes::copy_from_slice(data.get().as_bytes()),
            (None, Some(data)) => {
                STANDARD.decode(text(data)?.as_ref()).map_err(|error| format!("data_base64: {error}"))?.into()
            }
            _ => return Err("neither `data` nor `data_base64`, or both".into()),
        };
        let proof = match members.remove("hookbusproof") {
            None => Vec::new(),
            Some(proof) => {
                let proof: BTreeMap<String, String> =
                    serde_json::from_str(&text(proof)?).map_err(|error| format!("hookbusproof: {error}"))?;
                proof.into_iter().map(|(name, value)| (name, value.into_bytes())).collect()
            }
        };
        let attributes = members.into_iter().map(|(name, value)| Ok((name, text(value)?.into_owned())));
        Ok(Self { attributes: attributes.collect::<Result<_, String>>()?, proof, body })
    }

    /// The event's id; empty where it has none.
    pub fn id(&self) -> &str {
        self.attributes.get("id").map_or("", String::as_str)
    }

    /// Proves it again from what arrived alone, as a careful consumer does: body and proof headers under the secret
    /// of [`TestEvent`](crate::TestEvent)s.
    ///
    /// # Errors
    /// Why it is not authentic.
    pub fn verify_again(&self, provider: &str) -> Result<VerifiedEvent, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.proof {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let value = HeaderValue::from_bytes(value).map_err(|error| error.to_string())?;
            headers.append(name, value);
        }
        let source = self.attributes.get("source").map_or("", String::as_str);
        let verifier = verifier(source.trim_start_matches("/hooks/"), provider);
        let head = RequestHead { method: &Method::POST, query: None, headers: &headers };
        match verifier.examine(head).map_err(|refusal| refusal.as_str())? {
            Examined::Claim(claim) => {
                Ok(claim.verify(self.body.clone(), SystemTime::now()).map_err(|refusal| refusal.as_str())?)
            }
            Examined::MaybeProbe(_) | Examined::Handshake(_) => Err("it has no signature".into()),
        }
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Readable in a failed test, however large it is.
        let shown = self.body.get(..200).unwrap_or(&self.body);
        let more = if self.body.len() > 200 { ".." } else { "" };
        write!(f, "{:?} ", self.attributes)?;
        let proof = self.proof.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)));
        f.debug_map().entries(proof).finish()?;
        write!(f, " {} bytes \"{}\"{more}", self.body.len(), shown.escape_ascii())
    }
}

fn text(value: &RawValue) -> Result<Cow<'_, str>, String> {
    let text: String = serde_json::from_str(value.get()).map_err(|error| format!("not a text: {error}"))?;
    Ok(text.into())
}
