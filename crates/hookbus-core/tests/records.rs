//! Records: what was sealed comes back as it was, and nothing else proves.

use bytes::Bytes;
use hookbus_core::{
    RecordKey, VerifiedEvent,
    record::{ALIGN, HEAD, Kind, NoRecord, NotRestored, Place, Record, TAG},
};
use hookbus_testkit::TestEvent;
use proptest::prelude::*;

fn key() -> RecordKey {
    RecordKey::new(&[7; 32]).expect("32 bytes")
}

fn places() -> impl Strategy<Value = Place> {
    let place = |(generation, sequence, durable)| Place { generation, sequence, durable };
    any::<(u64, u64, u64)>().prop_map(place)
}

/// Events of providers that put what they say in different places: the body, or headers.
fn events() -> impl Strategy<Value = VerifiedEvent> {
    let provider = prop::sample::select(vec!["fastpix", "standard-webhooks", "github", "stripe", "shopify"]);
    let id = "[A-Za-z0-9_-]{1,40}";
    let subject = prop::option::of("[A-Za-z0-9_-]{1,40}");
    let content_type = prop::sample::select(vec!["application/json", "text/plain; charset=utf-8", "a/b"]);
    let encoding = prop::option::of(prop::sample::select(vec!["identity", "gzip"]));
    let body = prop::option::of(prop::collection::vec(any::<u8>(), 0..3000));
    let trace =
        prop::option::of(("00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-9]", prop::option::of("[a-z]{1,9}=[a-z]{1,99}")));
    (provider, id, "[a-z.]{1,30}", subject, content_type, encoding, body, trace).prop_map(
        |(provider, id, event_type, subject, content_type, encoding, body, trace)| {
            let mut event = TestEvent::new("in").provider(provider).id(id).event_type(event_type);
            event = event.content_type(content_type);
            if let Some(subject) = subject {
                event = event.subject(subject);
            }
            if let Some(encoding) = encoding {
                event = event.content_encoding(encoding);
            }
            if let Some(body) = body {
                event = event.body(body);
            }
            if let Some((parent, state)) = trace {
                event = event.trace(parent, state);
            }
            event.build()
        },
    )
}

fn sealed(place: Place, kind: Kind, about: &[u8], event: &VerifiedEvent) -> Vec<u8> {
    let mut bytes = Vec::new();
    key().seal_event(place, kind, about, event, &mut bytes).expect("it is small");
    bytes
}

fn assert_same(one: &VerifiedEvent, other: &VerifiedEvent) {
    assert_eq!(one.body(), other.body());
    assert_eq!(
        (one.source(), one.id(), one.id().origin()),
        (other.source(), other.id(), other.id().origin())
    );
    assert_eq!((one.event_type(), one.subject()), (other.event_type(), other.subject()));
    assert_eq!((one.time(), one.timestamp()), (other.time(), other.timestamp()));
    assert_eq!(one.received(), other.received());
    assert_eq!(one.proof_headers().collect::<Vec<_>>(), other.proof_headers().collect::<Vec<_>>());
    assert_eq!(one.content_type(), other.content_type());
    assert_eq!(one.content_encoding(), other.content_encoding());
    assert_eq!(one.unsigned_attributes(), other.unsigned_attributes());
    assert_eq!((one.signed_method(), one.signed_url()), (other.signed_method(), other.signed_url()));
    assert_eq!(one.carries_many(), other.carries_many());
    assert_eq!(one.trace(), other.trace());
    assert_eq!(one.size(), other.size());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_event_comes_back_as_it_was(
        event in events(), place in places(), number in 0_u8..128, about in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let kind = Kind::event(number);
        let bytes = sealed(place, kind, &about, &event);
        prop_assert_eq!(bytes.len() % ALIGN, 0);
        let record = key().prove(&bytes).expect("it was sealed here");
        prop_assert_eq!((record.head().place, record.head().kind), (place, kind));
        prop_assert_eq!(record.head().record_len(), bytes.len());
        prop_assert_eq!(record.about(), &about[..]);
        assert_same(&VerifiedEvent::restore(&record).expect("it holds one"), &event);
        // Behind it the next one may follow, and another key proves nothing.
        let twice = [&bytes[..], &bytes[..]].concat();
        prop_assert!(key().prove(&twice).is_ok());
        let other = RecordKey::new(&[8; 32]).expect("32 bytes");
        prop_assert_eq!(other.prove(&bytes).unwrap_err(), NoRecord::BadTag);
    }

    #[test]
    fn a_note_comes_back_as_it_was_and_holds_no_event(
        note in prop::collection::vec(any::<u8>(), 0..500), place in places(), number in any::<u8>(),
    ) {
        let mut bytes = Vec::new();
        // Whatever kind it is asked to be.
        let kind = if number % 2 == 0 { Kind::event(number) } else { Kind::note(number) };
        key().seal_note(place, kind, &note, &mut bytes).expect("it is small");
        let record = key().prove(&bytes).expect("it was sealed here");
        prop_assert_eq!(record.about(), &note[..]);
        prop_assert!(matches!(VerifiedEvent::restore(&record), Err(NotRestored::NoEvent)));
    }

    #[test]
    fn garbage_never_proves(mut bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0_u8..200) {
        // A head that is well formed gets further.
        if bytes.len() >= HEAD {
            bytes[..4].copy_from_slice(b"hkbR");
            bytes[4..8].copy_from_slice(&u32::from(length).to_le_bytes());
            bytes[33..HEAD].fill(0);
        }
        prop_assert!(key().prove(&bytes).is_err());
    }
}

fn one() -> (VerifiedEvent, Vec<u8>) {
    let event = TestEvent::new("in").id("e1").subject("s").length(200).build();
    let bytes = sealed(Place { generation: 3, sequence: 9, durable: 8 }, Kind::event(1), b"about", &event);
    (event, bytes)
}

fn proved(bytes: &[u8]) -> Option<Record<'_>> {
    key().prove(bytes).ok()
}

#[test]
fn every_flipped_bit_refuses() {
    let (event, bytes) = one();
    let length = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize;
    let end = HEAD + length + TAG;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let proved = proved(&flipped);
            // What fills up to the next record is not part of this one.
            assert_eq!(proved.is_some(), at >= end, "bit {bit} of byte {at}");
            if let Some(record) = proved {
                assert_same(&VerifiedEvent::restore(&record).expect("it holds one"), &event);
            }
        }
    }
}

#[test]
fn every_part_of_a_record_refuses() {
    let (_, bytes) = one();
    let end = HEAD + u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize + TAG;
    for length in 0..end {
        assert!(proved(&bytes[..length]).is_none(), "{length} bytes of it");
        assert!(proved(&bytes[end - length..end]).is_none(), "the last {length} bytes of it");
    }
    assert!(proved(&bytes[..end]).is_some());
}

#[test]
fn a_restored_event_holds_nothing_of_the_file_it_was_read_from() {
    let (event, bytes) = one();
    let restored =
        VerifiedEvent::restore(&proved(&bytes).expect("it was sealed here")).expect("it holds one");
    drop(bytes);
    let body: &Bytes = restored.body();
    assert_eq!(body, event.body());
}

/// A key and a record under it, as a bridge of before there were traces left them on its disk.
const BEFORE: &str = include_str!("records/before-traces.hex");

#[test]
fn a_record_of_before_there_were_traces_is_read() {
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("digits are text"), 16).expect("two digits")
    };
    let bytes = |line: &str| line.as_bytes().chunks(2).map(byte).collect::<Vec<_>>();
    let (key, record) = BEFORE.trim().split_once('\n').expect("two lines");
    let (key, bytes) = (RecordKey::new(&bytes(key)).expect("32 bytes"), bytes(record));
    let record = key.prove(&bytes).expect("it was sealed under this key");
    let event = VerifiedEvent::restore(&record).expect("it holds one");
    assert_eq!((event.source(), event.id().as_str(), event.subject()), ("fastpix", "e2", Some("s")));
    assert_eq!(event.time().map(|time| time.to_string()).as_deref(), Some("2026-01-12T06:43:14.430451085Z"));
    assert!(event.body().starts_with(b"{\"id\":\"e2\"") && event.trace().is_none());
    assert_eq!(event.unsigned_attributes(), ["datacontenttype"]);
    assert_eq!(event.proof_headers().count(), 1);
    // Written again it is the same.
    let mut again = Vec::new();
    let head = record.head();
    key.seal_event(head.place, head.kind, record.about(), &event, &mut again).expect("it is small");
    assert_eq!(again[..bytes.len()], bytes);
}
