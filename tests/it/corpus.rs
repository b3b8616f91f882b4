//! Distinct events of all sorts by number, genuine and forged: the same number gives the same request in
//! every run.

use crate::support::{Provider, post};

/// Recorded events; what makes each number's event another one is put in their place.
const FASTPIX: &str = include_str!("../vectors/events/fastpix/02-video.media.ready.json");
const FASTPIX_ID: &str = "43be8c0e-47c8-4719-bd32-fa7770e91b36";
const FASTPIX_OBJECT: &str = "239a1ece-b9fe-4bfb-a8e6-28e0b77da7ac";
const FASTGEN: &str = include_str!("../vectors/events/fastgen/05-workflow-finished.json");
const FASTGEN_ID: &str = "221496aa-1214-4b3f-af52-e24ed132962c";

/// What a body is like. No genuine body holds a `#`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing at all.
    Empty,
    /// `{}`.
    EmptyObject,
    /// As the provider sends it.
    Ordinary,
    /// Beyond one step of the byte budget.
    Large,
    /// `{}` with white space between, which spells the number.
    Bare,
    /// Bytes that are no text.
    NotUtf8,
    /// JSON over many lines.
    ManyLines,
    /// An ordinary one with a newline behind it.
    TrailingNewline,
    /// All that could name the event is there and empty.
    EmptyStrings,
    /// JSON without what could name the event, with texts that a careless reader would rewrite.
    Unusual,
    /// No JSON, but text.
    Text,
}

const KINDS: [Kind; 9] = [
    Kind::Ordinary,
    Kind::Large,
    Kind::Bare,
    Kind::NotUtf8,
    Kind::ManyLines,
    Kind::TrailingNewline,
    Kind::EmptyStrings,
    Kind::Unusual,
    Kind::Text,
];

/// How a request is forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Forgery {
    WrongKey,
    ByteChanged,
    Truncated,
    OtherEvent,
    MissingHeader,
    DuplicateHeader,
}

const FORGERIES: [Forgery; 6] = [
    Forgery::WrongKey,
    Forgery::ByteChanged,
    Forgery::Truncated,
    Forgery::OtherEvent,
    Forgery::MissingHeader,
    Forgery::DuplicateHeader,
];

impl Forgery {
    /// The reason it is refused for.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::WrongKey | Self::ByteChanged | Self::OtherEvent => "signature_mismatch",
            Self::Truncated => "bad_encoding",
            Self::MissingHeader => "missing_header",
            Self::DuplicateHeader => "duplicate_header",
        }
    }
}

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) provider: Provider,
    pub(crate) kind: Kind,
    /// The body that is sent.
    pub(crate) body: Vec<u8>,
    /// Nothing for a genuine one. Of ten consecutive numbers one is forged.
    pub(crate) forgery: Option<Forgery>,
}

/// The event of this number.
pub(crate) fn event(number: u64) -> Event {
    let forgery = (number % 10 == number / 10 % 10).then(|| FORGERIES[(number / 20 % 6) as usize]);
    let provider = Provider::ALL[(number % 2) as usize];
    let kind = match number {
        // There can be one of each only.
        1 | 2 => Kind::Empty,
        3 | 4 => Kind::EmptyObject,
        _ => KINDS[((number + number / 120) % 9) as usize],
    };
    let mut body = body(number, provider, kind);
    if forgery == Some(Forgery::ByteChanged) {
        let middle = body.len() / 2;
        body[middle] = b'#';
    }
    Event { provider, kind, body, forgery }
}

impl Event {
    /// The request that brings it.
    pub(crate) fn request(&self) -> Vec<u8> {
        let Self { provider, body, .. } = self;
        let genuine = || provider.signature(body);
        let signatures = match self.forgery {
            None => vec![genuine()],
            Some(Forgery::WrongKey) => vec![provider.signature_under(&provider.wrong_secret(), body)],
            Some(Forgery::ByteChanged) => {
                let before = body.iter().map(|byte| if *byte == b'#' { b' ' } else { *byte });
                vec![provider.signature(&before.collect::<Vec<_>>())]
            }
            Some(Forgery::Truncated) => {
                // Four digits are whole bytes in base64 and in hexadecimal: it decodes, but is too short.
                let signature = genuine();
                vec![signature[..signature.len() - 4].to_owned()]
            }
            Some(Forgery::OtherEvent) => vec![provider.signature(&[body, &b"#"[..]].concat())],
            Some(Forgery::MissingHeader) => Vec::new(),
            Some(Forgery::DuplicateHeader) => vec![genuine(), genuine()],
        };
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(signatures.iter().map(|signature| (provider.header(), signature.as_str())));
        post(&provider.path(), &headers, body)
    }
}

/// FastPix's recorded event with this id, about this object.
pub(crate) fn video(id: &str, object: &str) -> Vec<u8> {
    FASTPIX.replace(FASTPIX_ID, id).replace(FASTPIX_OBJECT, object).into_bytes()
}

fn body(number: u64, provider: Provider, kind: Kind) -> Vec<u8> {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let ordinary = match provider {
        Provider::FastPix => {
            // Some thousand objects: groups of one event, and groups of many.
            let object = format!("00000000-0000-4000-9000-{:012}", number * 31 % 4096);
            FASTPIX.replace(FASTPIX_ID, &id).replace(FASTPIX_OBJECT, &object)
        }
        Provider::Fastgen => FASTGEN.replace(FASTGEN_ID, &id),
    };
    match kind {
        Kind::Empty => Vec::new(),
        Kind::EmptyObject => b"{}".to_vec(),
        Kind::Ordinary => ordinary.into_bytes(),
        Kind::Large => {
            let padding = if number.is_multiple_of(20) { 150_000 } else { 3_000 };
            format!(r#"{{"id":"{id}","type":"large","event":"large","padding":"{}"}}"#, "x".repeat(padding))
                .into_bytes()
        }
        Kind::Bare => {
            let blanks = (0..32).map(|bit| if number >> bit & 1 == 1 { '\t' } else { ' ' });
            format!("{{{}}}", blanks.collect::<String>()).into_bytes()
        }
        Kind::NotUtf8 => [&b"{\"id\":\"\xff\xfe\xc0\x80"[..], id.as_bytes(), b"\xf0\x28\"}\0"].concat(),
        Kind::ManyLines => {
            let value: serde_json::Value = serde_json::from_str(&ordinary).unwrap();
            let ends = if number.is_multiple_of(3) { "\r\n" } else { "\n" };
            format!("{value:#}").replace('\n', ends).into_bytes()
        }
        Kind::TrailingNewline => format!("{ordinary}\n").into_bytes(),
        Kind::EmptyStrings => {
            format!(r#"{{"id":"","type":"","event":"","object":{{"id":""}},"createdAt":"","n":{number}}}"#)
                .into_bytes()
        }
        Kind::Unusual => {
            let numbers = r#""n":1.50E+2,"big":123456789012345678901234567890,"tiny":-0.0e-0"#;
            let text = "\\u00e9é\\ud83d\\ude00😀\\/\\u2028\u{2028}";
            format!(r#"{{"n":{number}, {numbers},"text":"{text}","a":[ ],"":null }}"#).into_bytes()
        }
        Kind::Text => format!("number={number}&text=\"a\"\tb\0\\").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    #[test]
    fn all_sorts_of_events_come_from_both_providers_and_a_tenth_is_forged() {
        let events = (0..5_000).map(event).collect::<Vec<_>>();
        let forged = events.iter().filter(|event| event.forgery.is_some());
        assert_eq!(forged.count(), 500);
        let forged = events.iter().filter_map(|event| Some((event.provider, event.forgery?)));
        assert_eq!(forged.collect::<BTreeSet<_>>().len(), 2 * FORGERIES.len());
        let genuine = events.iter().filter(|event| event.forgery.is_none());
        let kinds = genuine.map(|event| (event.provider, event.kind)).collect::<BTreeSet<_>>();
        assert_eq!(kinds.len(), 2 * (KINDS.len() + 2));
    }

    #[test]
    fn no_two_events_of_a_source_have_the_same_body() {
        let mut seen = HashSet::new();
        for event in (0..5_000).map(event) {
            let marked = event.body.contains(&b'#');
            assert_eq!(marked, event.forgery == Some(Forgery::ByteChanged), "{event:?}");
            assert!(seen.insert((event.provider, event.body)));
        }
    }
}
