//! What a consumer must find of an event of the corpus, by the documented layout.

use std::collections::BTreeMap;

use hookbus_brokers::Kind;
use sha2::{Digest as _, Sha256};

use super::consumer::Consumed;
use crate::{
    corpus::{self, Event},
    support::Provider,
};

/// Names and values, whatever the bus puts before the names of attributes.
pub(super) type Attributes = BTreeMap<String, String>;

/// The attributes of an event and its other headers, by the names CloudEvents gives them.
pub(super) fn attributes(kind: Kind, consumed: &Consumed) -> Attributes {
    let prefix = if kind == Kind::RabbitMq { "ce-" } else { "ce_" };
    let mut found = Attributes::new();
    let mut enter = |name: &str, value: &str| {
        let name = if name == "content-type" { "datacontenttype" } else { name };
        assert!(found.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice: {consumed:?}");
    };
    for (name, value) in &consumed.headers {
        enter(name.strip_prefix(prefix).unwrap_or(name), value);
    }
    if let Some(content_type) = consumed.properties.get("content_type") {
        enter("content-type", content_type.as_str().unwrap());
    }
    found
}

/// Compares what was found of a genuine event with what it must be.
pub(super) fn check(kind: Kind, number: u64, event: &Event, consumed: &Consumed, found: &Attributes) {
    let whose = || format!("{kind}: number {number}: {found:?}");
    assert!(consumed.body == event.body, "another body: {}", whose());
    assert!(consumed.authentic && !consumed.duplicate, "{}", whose());
    let mut rest = found.clone();
    let mut take = |name: &str| rest.remove(name);
    let provider = event.provider;
    assert_eq!(take("specversion").as_deref(), Some("1.0"), "{}", whose());
    assert_eq!(take("source"), Some(provider.path()), "{}", whose());
    assert_eq!(take("datacontenttype").as_deref(), Some("application/json"), "{}", whose());
    assert_eq!(take("hookbusunsigned").as_deref(), Some("datacontenttype"), "{}", whose());
    assert_eq!(take(provider.header()), Some(provider.signature(&event.body)), "{}", whose());
    assert!(take("traceparent").is_some_and(|trace| is_new_trace(&trace)), "{}", whose());
    let (id, time, event_type, subject) = (take("id"), take("time"), take("type"), take("subject"));
    match id_of(number, event) {
        Some(expected) => assert_eq!(id, Some(expected), "{}", whose()),
        None => assert!(id.is_some_and(|id| id.len() == 36 && id.as_bytes()[14] == b'7'), "{}", whose()),
    }
    assert_eq!(event_type.as_deref(), Some(type_of(event)), "{}", whose());
    let recorded = provider == Provider::FastPix && is_recorded(event);
    let expected = recorded.then(|| format!("00000000-0000-4000-9000-{:012}", number * 31 % 4096));
    assert_eq!(subject, expected, "{}", whose());
    match (time, recorded) {
        (Some(time), true) => assert_eq!(time, "2026-01-12T06:43:14.430451085Z", "{}", whose()),
        // When it was received.
        (time, _) => assert!(time.is_some_and(|time| time.ends_with('Z')), "{}", whose()),
    }
    if kind == Kind::Kafka {
        assert_eq!(consumed.key.as_ref(), found.get("subject"), "{}", whose());
    }
    assert!(rest.is_empty(), "nobody expects {rest:?} {}", whose());
}

/// Whether a `traceparent` is one that a bridge begins.
pub(super) fn is_new_trace(text: &str) -> bool {
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<_> = text.split('-').collect();
    matches!(parts[..], ["00", id, parent, "03"] if digits(id, 32) && digits(parent, 16))
}

/// The id, but where the bridge makes one.
fn id_of(number: u64, event: &Event) -> Option<String> {
    if is_recorded(event) || event.kind == corpus::Kind::Large {
        return Some(format!("00000000-0000-4000-8000-{number:012}"));
    }
    let digest = || Sha256::digest(&event.body).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    (event.provider == Provider::FastPix).then(|| format!("digest:{}", digest()))
}

fn type_of(event: &Event) -> &'static str {
    match event.provider {
        _ if event.kind == corpus::Kind::Large => "large",
        _ if !is_recorded(event) => "unknown",
        Provider::FastPix => "video.media.ready",
        Provider::Fastgen => "workflow-finished",
    }
}

/// Whether the body is a recorded one with another id, in whatever white space.
fn is_recorded(event: &Event) -> bool {
    use corpus::Kind::{ManyLines, Ordinary, TrailingNewline};
    matches!(event.kind, Ordinary | ManyLines | TrailingNewline)
}
