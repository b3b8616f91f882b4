//! What events and destinations are known by.

use std::collections::HashSet;

use hookbus_core::Address;

use hookbus_testkit::TestEvent;

use super::*;

fn event(source: &str, event_type: &str, id: &str) -> Option<Identity> {
    Identities::new(&key()).event(&TestEvent::new(source).event_type(event_type).id(id).build())
}

#[test]
fn source_type_and_id_count_and_nothing_else() {
    let identities = [
        ("a", "t", "i"),
        ("b", "t", "i"),
        ("a", "u", "i"),
        ("a", "t", "j"),
        ("a", "ti", "x"),
        ("a", "t", "ix"),
    ];
    let identities: HashSet<_> = identities.map(|(source, kind, id)| event(source, kind, id).unwrap()).into();
    assert_eq!(identities.len(), 6);
    let changed = TestEvent::new("a").event_type("t").id("i").subject("other").build();
    assert_eq!(Identities::new(&key()).event(&changed), event("a", "t", "i"));
    let other = Identities::new(&RecordKey::new(&[4; 32]).unwrap());
    assert_ne!(other.event(&changed), event("a", "t", "i"));
}

#[test]
fn an_event_without_an_id_of_its_provider_has_none() {
    let event = TestEvent::new("a").body("{}").build();
    assert_ne!(event.id().origin(), hookbus_core::IdOrigin::Provider);
    assert_eq!(Identities::new(&key()).event(&event), None);
}

#[test]
fn destinations_differ_by_sink_and_address() {
    let address = |parts: &[(&'static str, &'static str)]| Address::from_parts(parts.iter().copied(), 1);
    let hash = |sink, parts: &[(&'static str, &'static str)]| {
        Identities::new(&key()).destination(sink, &address(parts))
    };
    let all = [
        hash("bus", &[("topic", "a")]),
        hash("bus", &[("topic", "b")]),
        hash("other", &[("topic", "a")]),
        hash("bus", &[("topic", "a"), ("key", "k")]),
        hash("bus", &[("stream", "a")]),
    ];
    assert_eq!(HashSet::from(all).len(), 5);
    assert_eq!(hash("bus", &[("topic", "a")]), all[0]);
}
