//! The forms an event takes: what is put at a destination, and that its record holds what was received all the same.

use std::{collections::BTreeMap, sync::Arc};

use hookbus_core::{
    Address, Envelope, Form, Format, RecordKey, Redaction, Router, VerifiedEvent,
    form::Redactions,
    record::{Kind, Place},
    route::{Decision, Route, Target, Wrong},
    sink::AddressKey,
};
use hookbus_testkit::{Observed, TestEvent, event};

const TOPIC: AddressKey = AddressKey::required("topic");
const LIVE: &str = r#"{"id":"e1","type":"video.live","data":{ "streamKey": "s3cr3t", "n":1.50 }}"#;
const MASKED: &str = r#"{"id":"e1","type":"video.live","data":{ "streamKey": "***", "n":1.50 }}"#;
const ENVELOPE: &str = "application/cloudevents+json; charset=UTF-8";

fn redaction() -> Redaction {
    Redaction::new(["/data/streamKey", "/data/srtSecret"]).expect("they are pointers")
}

fn masking(format: Format) -> Form {
    Form::new(format).redacted(Some(redaction()))
}

fn attributes(event: &VerifiedEvent) -> BTreeMap<String, String> {
    Observed::of(event).attributes
}

#[test]
fn a_masked_event_has_no_proof_and_says_what_is_masked() {
    let received = event("fastpix", LIVE);
    let masked = received.in_form(&masking(Format::Binary));
    assert_eq!(masked.body(), MASKED);
    assert_eq!(masked.proof_headers().count(), 0);
    assert_eq!(masked.redacted(), Some(r#"["/data/streamKey"]"#));
    let mut expected = attributes(&received);
    expected.insert("hookbusredacted".into(), r#"["/data/streamKey"]"#.into());
    assert_eq!(attributes(&masked), expected);
    let mut line = Vec::new();
    masked.write_structured(&mut line);
    let observed = Observed::from_structured(&line).expect("it is one");
    assert_eq!(observed.body, MASKED);
    assert!(observed.proof.is_empty() && !line.windows(6).any(|part| part == b"s3cr3t"));
    // What was masked before stays masked.
    let twice = masked.masked(&Redaction::new(["/data/n"]).expect("it is one"));
    assert_eq!(twice.body(), &MASKED.replace("1.50", "\"***\""));
    assert_eq!(twice.redacted(), Some(r#"["/data/n","/data/streamKey"]"#));
}

#[test]
fn an_event_without_what_is_to_be_masked_stays_as_it_is() {
    let received = event("fastpix", r#"{"id":"e1","type":"t","data":{}}"#);
    let same = received.in_form(&masking(Format::Binary));
    assert_eq!((same.body(), same.redacted()), (received.body(), None));
    assert_eq!(Observed::of(&same), Observed::of(&received));
    assert!(Observed::of(&same).verify_again("fastpix").is_ok());
}

#[test]
fn a_structured_event_is_one_document_that_holds_all_of_it() {
    for body in [LIVE, "{\n  \"id\": \"e1\"\n}", " {\"id\":\"e1\"}\n", "no JSON", ""] {
        let received = event("fastpix", body);
        let structured = received.in_form(&Form::new(Format::Structured));
        assert!(structured.is_structured());
        assert_eq!(structured.content_type(), Some(ENVELOPE));
        assert_eq!(attributes(&structured), BTreeMap::from([("datacontenttype".into(), ENVELOPE.into())]));
        assert_eq!((structured.proof_headers().count(), structured.content_encoding()), (0, None));
        let held = Observed::from_structured(structured.body()).expect("it is one");
        assert_eq!(held, Observed::of(&received), "{body}");
        assert!(held.verify_again("fastpix").is_ok(), "{body}");
        let inline = !body.is_empty() && body.trim() == body && body.starts_with('{');
        assert_eq!(structured.body().windows(7).any(|part| part == b"\"data\":"), inline, "{body}");
        // A line of it is that of the event, whoever writes it.
        let (mut line, mut of_received) = (Vec::new(), Vec::new());
        structured.write_structured(&mut line);
        received.write_structured(&mut of_received);
        assert_eq!(line, of_received);
        // Beside the body stands the content type alone.
        let mut beside = Vec::new();
        structured.binary("ce_", |name, value| beside.push((name.to_owned(), value.to_vec())));
        assert_eq!(beside, [("content-type".to_owned(), ENVELOPE.as_bytes().to_vec())]);
    }
}

#[test]
fn an_encoded_body_stands_in_the_document_as_it_came() {
    let received = TestEvent::new("fastpix").content_encoding("gzip").body(&b"\x1f\x8b"[..]).build();
    let structured = received.in_form(&Form::new(Format::Structured));
    let held = Observed::from_structured(structured.body()).expect("it is one");
    assert_eq!(held, Observed::of(&received));
    assert_eq!(held.attributes["contentencoding"], "gzip");
}

#[test]
fn both_together() {
    let received = event("fastpix", LIVE);
    let structured = received.in_form(&masking(Format::Structured));
    let held = Observed::from_structured(structured.body()).expect("it is one");
    assert_eq!((&held.body[..], held.proof.len()), (MASKED.as_bytes(), 0));
    assert_eq!(held.attributes["hookbusredacted"], r#"["/data/streamKey"]"#);
    assert!(!String::from_utf8_lossy(structured.body()).contains("s3cr3t"));
    let later = received.in_form(&Form::new(Format::Structured)).masked(&redaction());
    assert_eq!(later.body(), structured.body(), "in whatever order");
}

#[test]
fn what_cannot_be_masked_is_hidden() {
    let encoded = TestEvent::new("fastpix").content_encoding("gzip").body(LIVE).build();
    assert!(encoded.can_be_masked().is_err());
    for received in [encoded, event("fastpix", "streamKey=s3cr3t")] {
        for format in Format::ALL {
            let hidden = received.in_form(&masking(format));
            assert!(!String::from_utf8_lossy(hidden.body()).contains("s3cr3t"));
            assert_eq!((hidden.redacted(), hidden.proof_headers().count()), (Some(r#"[""]"#), 0));
            assert_eq!(hidden.content_encoding(), None);
        }
    }
    let identity = TestEvent::new("fastpix").content_encoding("identity").body(LIVE).build();
    assert_eq!(identity.in_form(&masking(Format::Binary)).body(), MASKED);
}

#[test]
fn a_record_holds_what_was_received_in_whatever_form_it_is() {
    let key = RecordKey::new(&[7; 32]).expect("32 bytes");
    let place = Place { generation: 1, sequence: 2, durable: 0 };
    let received = event("fastpix", LIVE);
    let sealed = |event: &VerifiedEvent| {
        let mut bytes = Vec::new();
        key.seal_event(place, Kind::event(0), b"", event, &mut bytes).expect("it is small");
        bytes
    };
    for format in Format::ALL {
        let shown = received.in_form(&masking(format));
        assert!(shown.size() > received.size(), "it takes memory");
        assert_eq!(sealed(&shown), sealed(&received));
        assert_eq!(Observed::of(&shown.as_received()), Observed::of(&received));
    }
    let bytes = sealed(&received.in_form(&masking(Format::Structured)));
    let restored =
        VerifiedEvent::restore(&key.prove(&bytes).expect("it was sealed here")).expect("it holds one");
    assert_eq!(Observed::of(&restored), Observed::of(&received));
    assert_eq!(restored.trace(), received.trace());
}

#[test]
fn an_envelope_has_its_event_in_the_form_of_its_address() {
    let address = Address::from_parts([("topic", "t")], 1);
    let plain = Envelope::new(event("fastpix", LIVE), address.clone());
    assert_eq!(plain.event.body(), LIVE);
    let masking = address.clone().with_form(masking(Format::Binary));
    let masked = Envelope::new(event("fastpix", LIVE), masking.clone());
    assert_eq!(masked.event.body(), MASKED);
    // From one address to the next it begins anew with what was received.
    let again = Envelope::new(masked.event, address.clone().with_form(Form::new(Format::Structured)));
    assert_eq!(Observed::from_structured(again.event.body()).expect("it is one").body, LIVE);
    assert_eq!(address, masking, "the form does not say where it is");
    assert_eq!(masking.place().form(), None);
    assert_eq!(address.with_form(Form::default()).form(), None);
}

/// What one route with these targets decides: topic, format, whether it masks.
fn route(event: &VerifiedEvent, routes: &[&[(&str, Format, bool)]], masks: bool) -> Decision {
    let target = |(topic, format, redact): &(&str, Format, bool)| {
        let address = vec![(TOPIC, topic.parse().expect("it is a template"))];
        Target { format: *format, redact: *redact, ..Target::new(0, address) }
    };
    let route = |(at, to): (usize, &&[(&str, Format, bool)])| Route {
        name: format!("r{at}").into(),
        sources: vec![],
        types: vec![],
        to: to.iter().map(target).collect(),
    };
    let routes: Vec<_> = routes.iter().enumerate().map(route).collect();
    let router = Router::new([Arc::from("fastpix")], &routes).expect("the addresses are sound");
    let redactions = masks.then(|| (Arc::from("fastpix"), redaction()));
    router.redacting(redactions.into_iter().collect::<Redactions>()).route(event)
}

fn forms(decision: &Decision) -> Vec<(String, Form)> {
    let form = |address: &Address| address.form().cloned().unwrap_or_default();
    decision.destinations.iter().map(|to| (to.address.to_string(), form(&to.address))).collect()
}

#[test]
fn a_destination_has_the_form_its_route_says() {
    use Format::{Binary, Structured};
    let received = event("fastpix", LIVE);
    let targets: &[_] =
        &[("a", Binary, false), ("b", Structured, false), ("{type}", Binary, true), ("d", Structured, true)];
    let expected = [
        ("topic=a", Form::default()),
        ("topic=b", Form::new(Structured)),
        ("topic=video.live", masking(Binary)),
        ("topic=d", masking(Structured)),
    ];
    let expected = expected.map(|(address, form)| (address.to_owned(), form));
    assert_eq!(forms(&route(&received, &[targets], true)), expected);
    // A source that says of nothing that it must not be seen.
    let without = forms(&route(&received, &[targets], false));
    assert!(without.iter().all(|(_, form)| form.redaction().is_none()), "{without:?}");
}

#[test]
fn routes_to_one_address_agree_on_the_first_format_and_on_masking() {
    use Format::{Binary, Structured};
    let received = event("fastpix", LIVE);
    for (routes, expected) in [
        ([("a", Binary, false), ("a", Structured, true)], masking(Binary)),
        ([("a", Structured, true), ("{source}", Binary, false)], masking(Structured)),
        ([("a", Structured, false), ("a", Binary, false)], Form::new(Structured)),
    ] {
        let routes = [&routes[..1], &routes[1..]];
        let found = forms(&route(&received, &routes, true));
        let once = if routes[1][0].0 == "a" { 1 } else { 2 };
        assert_eq!((found.len(), &found[0].1), (once, &expected));
    }
}

#[test]
fn what_cannot_be_masked_goes_nowhere_where_it_must_be() {
    use Format::Binary;
    let body = event("fastpix", "streamKey=s3cr3t");
    let routes: [&[_]; 2] = [&[("a", Binary, false), ("b", Binary, false)], &[("a", Binary, true)]];
    let decision = route(&body, &routes, true);
    assert_eq!(forms(&decision), [("topic=b".to_owned(), Form::default())], "another route to it says so");
    let [lost] = &decision.unaddressable[..] else { panic!("{decision:?}") };
    assert_eq!((lost.what, lost.reason(), &*lost.route), (Wrong::Body, "unredactable", "r1"));
    assert_eq!(lost.to_string(), "route `r1`: the body, in which values must be masked, is no JSON");
    let encoded = TestEvent::new("fastpix").content_encoding("gzip").body(LIVE).build();
    let lost = route(&encoded, &[&[("a", Binary, true)]], true).unaddressable.remove(0);
    assert!(lost.to_string().ends_with("has a content encoding"), "{lost}");
    assert!(route(&event("fastpix", ""), &[&[("a", Binary, true)]], true).unaddressable.is_empty());
}
