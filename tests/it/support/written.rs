//! Reading back what the bridge wrote, with code of our own: lines of the `file` sink, dead letters.

use std::{fs, io::ErrorKind, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// One line.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) subject: Option<String>,
    /// The body, byte for byte.
    pub(crate) body: Vec<u8>,
    /// The headers a consumer verifies the body with, by name.
    pub(crate) proof: Value,
}

#[derive(Deserialize)]
struct Line<'a> {
    specversion: String,
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
    hookbusproof: String,
}

impl Written {
    /// Reads a file of lines; one that is not there has none. What is no line is a failed test.
    pub(crate) fn read(path: &Path) -> Vec<Self> {
        lines(path, Self::parse)
    }

    fn parse(text: &str) -> Self {
        let line: Line<'_> =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in the line {text}"));
        assert_eq!(line.specversion, "1.0");
        let body = match (line.data, line.data_base64) {
            // The source text, as it stands in the line.
            (Some(data), None) => data.get().as_bytes().to_vec(),
            (None, Some(data)) => STANDARD.decode(data).unwrap(),
            _ => panic!("`data` or `data_base64`, not both or none: {text}"),
        };
        let proof = serde_json::from_str(&line.hookbusproof).unwrap();
        Self { id: line.id, event_type: line.event_type, subject: line.subject, body, proof }
    }
}

/// A dead letter.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// The kind of error.
    pub(crate) reason: String,
    /// The event, whole.
    pub(crate) event: Written,
}

#[derive(Deserialize)]
struct Letter<'a> {
    reason: String,
    #[serde(borrow)]
    event: &'a RawValue,
}

impl DeadLetter {
    /// Reads one as it is shown.
    pub(crate) fn parse(text: &str) -> Self {
        let letter: Letter<'_> =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in the line {text}"));
        Self { reason: letter.reason, event: Written::parse(letter.event.get()) }
    }
}

/// Reads each line of a file.
fn lines<T>(path: &Path, parse: impl Fn(&str) -> T) -> Vec<T> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        text => text.unwrap(),
    };
    assert!(text.ends_with('\n'), "the last line is not whole");
    // By newline alone: a body may hold other line ends.
    text.trim_end_matches('\n').split('\n').map(parse).collect()
}
