//! An event as a CloudEvent (CNCF CloudEvents 1.0.2): its attributes, and the structured form as one line of JSON.

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use crate::{EventTime, VerifiedEvent};

/// Deeper nesting than this is written as `data_base64`: readers commonly stop at 128 levels.
const MAX_DEPTH: usize = 100;

impl VerifiedEvent {
    /// Calls `each` with every CloudEvents attribute that has a value, in a fixed order: `specversion`, `id`,
    /// `source`, `type`, `time`, `subject`, `datacontenttype`, then extensions sorted by name.
    pub fn attributes(&self, mut each: impl FnMut(&'static str, &str)) {
        each("specversion", "1.0");
        each("id", self.id().as_str());
        each("source", &format!("/hooks/{}", self.source()));
        each("type", self.event_type());
        each("time", &self.time().unwrap_or_else(|| EventTime::from(self.received())).to_string());
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
        if !self.unsigned_attributes().is_empty() {
            each("hookbusunsigned", &self.unsigned_attributes().join(","));
        }
        if let Some(url) = self.signed_url() {
            each("hookbusurl", url);
        }
    }

    /// Appends the structured form as one line, newline included.
    ///
    /// The body is exact: `data` holds its bytes where they are one line of JSON without outer white space,
    /// `data_base64` holds it otherwise. `hookbusproof` holds the proof headers as a JSON object in a string.
    pub fn write_structured(&self, line: &mut Vec<u8>) {
        line.push(b'{');
        self.attributes(|name, value| {
            write_member(line, name, value);
            line.push(b',');
        });
        let proof: serde_json::Map<_, _> = self
            .proof_headers()
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned().into()))
            .collect();
        if !proof.is_empty() {
            write_member(line, "hookbusproof", &serde_json::Value::Object(proof).to_string());
            line.push(b',');
        }
        match self.inline_json() {
            Some(json) => {
                line.extend_from_slice(b"\"data\":");
                line.extend_from_slice(json.as_bytes());
            }
            None => {
                line.extend_from_slice(b"\"data_base64\":\"");
                line.extend_from_slice(STANDARD.encode(self.body()).as_bytes());
                line.push(b'"');
            }
        }
        line.extend_from_slice(b"}\n");
    }

    /// The body, where it can stand in a line of JSON as it is.
    fn inline_json(&self) -> Option<&str> {
        let declared = self.content_type().is_none_or(is_json) && self.content_encoding().is_none();
        let text = std::str::from_utf8(self.body()).ok().filter(|_| declared)?;
        if text.contains(['\n', '\r']) || too_deep(text.as_bytes()) {
            return None;
        }
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        (raw.get().len() == text.len()).then_some(text)
    }
}

/// Whether a media type is JSON: `*/json` or `*/*+json`, parameters aside.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn too_deep(json: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

fn write_member(line: &mut Vec<u8>, name: &str, value: &str) {
    // Writing to a Vec cannot fail, and a string is always JSON.
    let _ = write!(line, "\"{name}\":");
    let _ = serde_json::to_writer(&mut *line, value);
}
