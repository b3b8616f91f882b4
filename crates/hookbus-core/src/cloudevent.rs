//! An event as a CloudEvent (CNCF CloudEvents 1.0.2): its attributes, and the structured form as one line of JSON.

use std::{borrow::Cow, fmt, io::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

use crate::{VerifiedEvent, form::View};

/// Deeper nesting is written as `data_base64`: readers commonly stop at 128 levels.
const MAX_DEPTH: usize = 100;

/// The content type of the structured form.
pub(crate) const STRUCTURED: &str = "application/cloudevents+json; charset=UTF-8";

impl VerifiedEvent {
    /// Calls `each` with every CloudEvents attribute that has a value, in a fixed order: `specversion`, `id`,
    /// `source`, `type`, `time`, `subject`, `datacontenttype`, then extensions sorted by name.
    ///
    /// Of a structured event all of them stand in its body, and `datacontenttype` says so.
    pub fn attributes(&self, mut each: impl FnMut(&'static str, &str)) {
        if self.is_structured() {
            return each("datacontenttype", STRUCTURED);
        }
        each("specversion", "1.0");
        each("id", self.id().as_str());
        each("source", &format!("/hooks/{}", self.source()));
        each("type", self.event_type());
        each("time", &self.timestamp().to_string());
        if let Some(subject) = self.subject() {
            each("subject", subject);
        }
        if let Some(content_type) = self.content_type() {
            each("datacontenttype", content_type);
        }
        if let Some(encoding) = self.content_encoding() {
            each("contentencoding", encoding);
        }
        if let Some(method) = self.signed_method() {
            each("hookbusmethod", method);
        }
        if let Some(pointers) = self.redacted() {
            each("hookbusredacted", pointers);
        }
        if !self.unsigned_attributes().is_empty() {
            each("hookbusunsigned", &self.unsigned_attributes().join(","));
        }
        if let Some(url) = self.signed_url() {
            each("hookbusurl", url);
        }
        if let Some(trace) = self.trace() {
            each("traceparent", &trace.to_string());
            if let Some(state) = trace.state() {
                each("tracestate", state);
            }
        }
    }

    /// Calls `each` with the name and value of everything that stands beside the body in binary mode, in a fixed order:
    /// the attributes with this prefix before their names, the proof headers under their own, and `content-type`, which
    /// is the attribute `datacontenttype`.
    pub fn binary(&self, prefix: &str, mut each: impl FnMut(&str, &[u8])) {
        let mut name = String::with_capacity(32);
        self.attributes(|attribute, value| {
            if attribute != "datacontenttype" {
                name.clear();
                name.push_str(prefix);
                name.push_str(attribute);
                each(&name, value.as_bytes());
            }
        });
        self.proof_headers().for_each(|(header, value)| each(header, value));
        if let Some(content_type) = self.content_type() {
            each("content-type", content_type.as_bytes());
        }
    }

    /// Appends the structured form as one line, newline included.
    ///
    /// The body is exact: `data` holds its bytes where they are one line of JSON without outer white space,
    /// `data_base64` holds it otherwise. `hookbusproof` holds the proof headers as a JSON object in a string.
    pub fn write_structured(&self, line: &mut Vec<u8>) {
        self.write_json(line, |text| !text.contains(['\n', '\r']));
        line.push(b'\n');
    }

    /// Appends the structured form as a message of its own: as a line, but `data` may have several lines.
    pub(crate) fn write_message(&self, message: &mut Vec<u8>) {
        self.write_json(message, |_| true);
    }

    fn write_json(&self, out: &mut Vec<u8>, fits: impl Fn(&str) -> bool) {
        let event = &*self.without_envelope();
        out.push(b'{');
        event.attributes(|name, value| {
            write_member(out, name, value);
            out.push(b',');
        });
        let proof: serde_json::Map<_, _> = event
            .proof_headers()
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned().into()))
            .collect();
        if !proof.is_empty() {
            write_member(out, "hookbusproof", &serde_json::Value::Object(proof).to_string());
            out.push(b',');
        }
        match event.inline_json().filter(|text| fits(text)) {
            Some(json) => {
                out.extend_from_slice(b"\"data\":");
                out.extend_from_slice(json.as_bytes());
            }
            None => {
                out.extend_from_slice(b"\"data_base64\":\"");
                out.extend_from_slice(STANDARD.encode(event.body()).as_bytes());
                out.push(b'"');
            }
        }
        out.push(b'}');
    }

    /// The event that a structured one holds.
    fn without_envelope(&self) -> Cow<'_, Self> {
        match self.view() {
            Some(View { envelope: Some(_), masked: None }) => Cow::Owned(self.as_received()),
            Some(View { envelope: Some(_), masked }) => {
                Cow::Owned(self.with_view(View { envelope: None, masked: masked.clone() }))
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// The body, where it can stand in JSON as it is.
    fn inline_json(&self) -> Option<&str> {
        let declared = self.content_type().is_none_or(is_json) && self.content_encoding().is_none();
        let text = std::str::from_utf8(self.body()).ok().filter(|_| declared)?;
        (text.trim_ascii().len() == text.len() && Readable::check(text).is_ok()).then_some(text)
    }
}

/// Whether a media type is JSON: `*/json` or `*/*+json`, parameters aside.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// Reads JSON and keeps nothing of it, to know that common readers read it too: not nested too deep, no number beyond
/// a double, no half of a surrogate pair. What is not must not stand in a line, or its reader loses the line.
#[derive(Clone, Copy)]
struct Readable {
    depth: usize,
}

impl Readable {
    fn check(text: &str) -> serde_json::Result<()> {
        let mut json = serde_json::Deserializer::from_str(text);
        Self { depth: 0 }.deserialize(&mut json)?;
        json.end()
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            Err(E::custom("nested too deep"))
        } else {
            Ok(Self { depth: self.depth + 1 })
        }
    }
}

impl<'de> DeserializeSeed<'de> for Readable {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while map.next_entry_seed(inner, inner)?.is_some() {}
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

fn write_member(line: &mut Vec<u8>, name: &str, value: &str) {
    // Writing to a Vec cannot fail, and a string is always JSON.
    let _ = write!(line, "\"{name}\":");
    let _ = serde_json::to_writer(&mut *line, value);
}
