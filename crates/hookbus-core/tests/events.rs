//! What a verified event says about itself, and how it is written down.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hookbus_core::{
    IdOrigin, Refusal, RequestHead, Scheme, Secret, VerifiedEvent, Verifier,
    verify::{Examined, ToSign},
};
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;
use serde_json::value::RawValue;

/// Base64, so that it is a secret of every HMAC scheme.
const SECRET: &str = "SP4Umnt/wSL85lTRRZk+1GcuiGVN6moztz1VETQKKrQ=";

/// Monday, 12 January 2026, 06:43:20.5 UTC.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_768_200_200_500)
}

/// Signs a request, adds headers to it and verifies it. The source is `in-` and the scheme.
fn event_with(scheme: &str, body: impl Into<Bytes>, extra: &[(&'static str, &str)]) -> VerifiedEvent {
    let (rules, body, secret) =
        (Scheme::built_in(scheme).expect("it is built in"), body.into(), Secret::new(SECRET));
    let method = Method::POST;
    let url = "https://hooks.example.com/in?a=b";
    let to_sign = ToSign {
        secret: &secret,
        method: &method,
        url,
        id: "delivery-1",
        event_type: "push",
        now: now(),
        body: &body,
    };
    let mut headers: HeaderMap = rules.sign(to_sign).expect("the secret fits").into_iter().collect();
    for (name, value) in extra {
        headers.insert(*name, HeaderValue::from_str(value).expect("a header takes it"));
    }
    let public_url = Some("https://hooks.example.com/in".to_owned());
    let (verifier, unusable) = Verifier::new(&format!("in-{scheme}"), rules, public_url, &[secret]);
    assert_eq!(unusable, [], "{scheme}");
    match verifier.examine(RequestHead { method: &method, query: Some("a=b"), headers: &headers }) {
        Ok(Examined::Claim(claim)) => claim.verify(body, now()).expect("it was signed"),
        Ok(Examined::MaybeProbe(_) | Examined::Handshake(_)) => {
            panic!("{scheme}: a signed request is no test of the URL")
        }
        Err(refusal) => panic!("{scheme}: {refusal}"),
    }
}

fn event(scheme: &str, body: impl Into<Bytes>) -> VerifiedEvent {
    event_with(scheme, body, &[])
}

fn recorded(file: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/events").join(file))
        .expect("it is there")
}

/// What the list of recorded events says about one of them.
fn recorded_fact(file: &str, fact: &str) -> String {
    let index: serde_json::Value = serde_json::from_slice(&recorded("index.json")).expect("it is JSON");
    let files = index["files"].as_array().expect("it lists files");
    let entry = files.iter().find(|entry| entry["file"] == file).expect("the file is listed");
    entry.pointer(fact).and_then(serde_json::Value::as_str).expect("the fact is a text").to_owned()
}

fn attributes(event: &VerifiedEvent) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    event.attributes(|name, value| found.push((name, value.to_owned())));
    found
}

fn proof(event: &VerifiedEvent) -> Vec<(&str, &[u8])> {
    event.proof_headers().collect()
}

/// The structured form, once it is known to be one line.
fn line(event: &VerifiedEvent) -> String {
    let mut line = b"before\n".to_vec();
    event.write_structured(&mut line);
    let line = line.strip_prefix(b"before\n").expect("what was there stays");
    let line = String::from_utf8(line.to_vec()).expect("it is text");
    assert_eq!(line.find('\n'), Some(line.len() - 1), "one newline, at the end: {line:?}");
    assert!(!line.contains('\r'), "{line:?}");
    line
}

/// The body as a reader of the line gets it, and whether it stood there as JSON.
fn recovered(line: &str) -> (Vec<u8>, bool) {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_str(line).expect("a line is a JSON object");
    match (members.get("data"), members.get("data_base64")) {
        (Some(data), None) => (data.get().as_bytes().to_vec(), true),
        (None, Some(data)) => {
            let data: String = serde_json::from_str(data.get()).expect("base64 stands in a string");
            (STANDARD.decode(data).expect("it is base64"), false)
        }
        _ => panic!("either `data` or `data_base64`: {line}"),
    }
}

#[test]
fn a_fastpix_event_has_everything_the_provider_says() {
    let file = "fastpix/02-video.media.ready.json";
    let event = event_with("fastpix", recorded(file), &[("content-type", "application/json")]);
    assert_eq!(event.source(), "in-fastpix");
    assert_eq!(event.id().as_str(), recorded_fact(file, "/event_id"));
    assert_eq!(event.id().origin(), IdOrigin::Provider);
    assert_eq!(event.event_type(), "video.media.ready");
    assert_eq!(event.subject(), Some(recorded_fact(file, "/object/id").as_str()));
    assert_eq!(event.time().map(|time| time.to_string()).as_deref(), Some("2026-01-12T06:43:14.430451085Z"));
    assert_eq!(event.received(), now());
    assert_eq!(event.body(), &recorded(file));
    let signature = recorded_fact(file, "/demo_headers/FastPix-Signature");
    assert_eq!(proof(&event), [("fastpix-signature", signature.as_bytes())]);
    assert_eq!(event.unsigned_attributes(), ["datacontenttype"]);
    assert!(!event.carries_many());
    let expected = [
        ("specversion", "1.0"),
        ("id", "43be8c0e-47c8-4719-bd32-fa7770e91b36"),
        ("source", "/hooks/in-fastpix"),
        ("type", "video.media.ready"),
        ("time", "2026-01-12T06:43:14.430451085Z"),
        ("subject", "239a1ece-b9fe-4bfb-a8e6-28e0b77da7ac"),
        ("datacontenttype", "application/json"),
        ("hookbusunsigned", "datacontenttype"),
    ];
    assert_eq!(attributes(&event), expected.map(|(name, value)| (name, value.to_owned())));
}

#[test]
fn attributes_come_in_their_order_and_only_with_a_value() {
    let bare = attributes(&event("fastpix", "{}"));
    let names: Vec<_> = bare.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["specversion", "id", "source", "type", "time"]);
    assert_eq!(bare[4].1, "2026-01-12T06:43:20.5Z", "without a time of the provider's, that of the arrival");

    let body =
        r#"[{"eventId":1,"subscriptionType":"contact.creation","objectId":2,"occurredAt":1768200194430}]"#;
    let full = event_with(
        "hubspot",
        body,
        &[("content-type", "application/json"), ("content-encoding", "identity")],
    );
    let expected = [
        ("specversion", "1.0"),
        ("id", "digest:8312fb2003c5b1b858395d1ce999b38ab075d2fc1a4d2bbf26af165eeecd6192"),
        ("source", "/hooks/in-hubspot"),
        ("type", "contact.creation"),
        ("time", "2026-01-12T06:43:14.43Z"),
        ("subject", "2"),
        ("datacontenttype", "application/json"),
        ("contentencoding", "identity"),
        ("hookbusmethod", "POST"),
        ("hookbusunsigned", "datacontenttype,contentencoding"),
        ("hookbusurl", "https://hooks.example.com/in?a=b"),
    ];
    assert_eq!(attributes(&full), expected.map(|(name, value)| (name, value.to_owned())));
}

#[test]
fn a_legacy_fastpix_event_is_identified_by_its_digest() {
    let file = "fastpix-extra/13-video.live_stream.idle.json";
    let event = event("fastpix", recorded(file));
    assert_eq!(event.id().as_str(), format!("digest:{}", recorded_fact(file, "/sha256")));
    assert_eq!(event.id().origin(), IdOrigin::Digest);
    assert_eq!(event.time().map(|time| time.to_string()).as_deref(), Some("2023-12-06T09:12:29.112Z"));
    assert_eq!(event.unsigned_attributes(), [""; 0]);
}

#[test]
fn what_github_says_in_headers_is_unsigned() {
    let event = event("github", r#"{"repository":{"full_name":"octo/demo"}}"#);
    assert_eq!((event.id().as_str(), event.event_type()), ("delivery-1", "push"));
    assert_eq!(event.id().origin(), IdOrigin::Provider);
    assert_eq!(event.subject(), Some("octo/demo"));
    assert_eq!(event.unsigned_attributes(), ["id", "type"]);
    assert!(attributes(&event).contains(&("hookbusunsigned", "id,type".to_owned())));
    let names: Vec<_> = event.proof_headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["x-hub-signature-256", "x-github-delivery", "x-github-event"]);
}

#[test]
fn an_id_that_is_signed_in_a_header_is_not_listed() {
    let event = event("standard-webhooks", r#"{"type":"user.created"}"#);
    assert_eq!((event.id().as_str(), event.event_type()), ("delivery-1", "user.created"));
    assert_eq!(event.unsigned_attributes(), [""; 0]);
    assert_eq!(
        event.time().map(|time| time.to_string()).as_deref(),
        Some("2026-01-12T06:43:20Z"),
        "of the signature"
    );
}

#[test]
fn a_token_is_never_shown() {
    let event = event("gitlab-token", r#"{"project":{"path_with_namespace":"octo/demo","id":7}}"#);
    let proof = proof(&event);
    assert_eq!(
        proof,
        [("idempotency-key", b"delivery-1".as_slice()), ("x-gitlab-event", b"push".as_slice())]
    );
    let shown = format!("{event:?} {:?} {:?} {}", proof, attributes(&event), line(&event));
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(!shown.to_lowercase().contains("x-gitlab-token"), "{shown}");
    assert_eq!(event.subject(), Some("octo/demo"));
    assert_eq!(event.unsigned_attributes(), ["id", "type", "subject", "data"]);
}

#[test]
fn neither_body_nor_signature_shows_in_debug() {
    let event = event("fastpix", r#"{"type":"video.media.ready","data":{"streamKey":"JraFQihg"}}"#);
    let signature = String::from_utf8(proof(&event)[0].1.to_vec()).unwrap();
    let shown = format!("{event:?}");
    assert!(!shown.contains("JraFQihg") && !shown.contains(&signature), "{shown}");
    assert!(shown.contains("video.media.ready"), "{shown}");
}

#[test]
fn where_the_provider_gives_no_id_each_acceptance_gets_one() {
    let events = [event("dropbox", "{}"), event("dropbox", "{}")];
    for event in &events {
        assert_eq!(event.id().origin(), IdOrigin::Made);
        let id: uuid::Uuid = event.id().as_str().parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(event.event_type(), "list_folder");
        assert_eq!(event.unsigned_attributes(), [""; 0]);
    }
    assert_ne!(events[0].id(), events[1].id());
}

#[test]
fn a_body_of_other_than_one_event_carries_many() {
    let one = r#"{"webhookEventId":"a","type":"message"}"#;
    for (body, many) in [
        (r#"{"events":[]}"#.to_owned(), true),
        (format!(r#"{{"events":[{one}]}}"#), false),
        (format!(r#"{{"events":[{one},{one}]}}"#), true),
        (format!(r#"{{"events":[[{one},{one}]]}}"#), false),
    ] {
        assert_eq!(event("line", body.clone()).carries_many(), many, "{body}");
    }
    assert!(event("hubspot", "[{},{}]").carries_many(), "the body itself is the array");
    assert!(!event("fastpix", "[{},{}]").carries_many(), "FastPix has no such bodies");
}

#[test]
fn numbers_keep_their_source_text() {
    let event = event(
        "agora",
        r#"{"noticeId":12345678901234567890123,"eventType":1.50,"payload":{"channelName":-0}}"#,
    );
    assert_eq!((event.id().as_str(), event.event_type()), ("12345678901234567890123", "1.50"));
    assert_eq!(event.subject(), Some("-0"));
    let written = line(&event);
    let members: BTreeMap<&str, &RawValue> = serde_json::from_str(&written).unwrap();
    assert_eq!((members["id"].get(), members["type"].get()), ("\"12345678901234567890123\"", "\"1.50\""));
}

#[test]
fn a_body_without_a_type_is_of_type_unknown() {
    for body in [
        "{}",
        "",
        "not JSON",
        r#"{"type":""}"#,
        r#"{"type":null}"#,
        r#"{"type":{"a":1}}"#,
        r#"{"type":["a"]}"#,
    ] {
        let event = event("fastpix", body);
        assert_eq!((event.event_type(), event.subject(), event.time()), ("unknown", None, None), "{body}");
        assert_eq!(event.id().origin(), IdOrigin::Digest, "{body}");
        assert!(attributes(&event).contains(&("type", "unknown".to_owned())), "{body}");
    }
}

#[test]
fn a_body_stands_in_the_line_as_it_is_or_as_base64() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    let braces_in_text = format!(r#"{{"a":"{}\"\\"}}"#, "[{".repeat(200)).into_bytes();
    let json = Some("application/json");
    let cases: [(&[u8], _, _, bool); 30] = [
        (br#"{"type":"a"}"#, json, None, true),
        (br#"{"type":"a"}"#, None, None, true),
        (br#"{"type":"a"}"#, Some("Application/JSON; charset=utf-8"), None, true),
        (br#"{"type":"a"}"#, Some("application/cloudevents+json"), None, true),
        (br#"{ "n" : 1.50, "n" : 12345678901234567890123 }"#, json, None, true),
        ("{\"text\":\"é\u{2028}\\n\\u0000\"}".as_bytes(), json, None, true),
        (b"null", json, None, true),
        (b"\"text\"", json, None, true),
        (&nested(100), json, None, true),
        (&braces_in_text, json, None, true),
        (&nested(101), json, None, false),
        (&nested(200), json, None, false),
        (b"{\n  \"type\": \"a\"\n}", json, None, false),
        (b"{\"type\":\r\"a\"}", json, None, false),
        (b"{}\n", json, None, false),
        (b"{}\r\n", json, None, false),
        (b" {}", json, None, false),
        (b"{} ", json, None, false),
        (b"{}{}", json, None, false),
        (b"\xef\xbb\xbf{}", json, None, false),
        (b"{\"a\":\"\xff\"}", json, None, false),
        (b"\xff\xfe\x00", json, None, false),
        (b"", json, None, false),
        (b"a=1&b=2", None, None, false),
        (b"{\"a\":1", json, None, false),
        (br#"{"n":1e400}"#, json, None, false),
        (br#"{"half":"\ud800"}"#, json, None, false),
        (b"{}", Some("text/plain"), None, false),
        (b"{}", Some("application/x-json-stream"), None, false),
        (b"{}", json, Some("gzip"), false),
    ];
    for (body, content_type, content_encoding, inline) in cases {
        let content_type = content_type.map(|value| ("content-type", value));
        let content_encoding = content_encoding.map(|value| ("content-encoding", value));
        let extra: Vec<_> = content_type.into_iter().chain(content_encoding).collect();
        let written = line(&event_with("fastpix", body.to_vec(), &extra));
        assert_eq!(recovered(&written), (body.to_vec(), inline), "{written}");
        let value: serde_json::Value = serde_json::from_str(&written).expect("a common reader takes it");
        assert_eq!(value["specversion"], "1.0", "{written}");
    }
}

#[test]
fn a_line_tells_the_attributes_in_order_and_the_proof() {
    let file = "fastpix/02-video.media.ready.json";
    let event = event_with("fastpix", recorded(file), &[("content-type", "application/json")]);
    let written = line(&event);
    let mut before = 0;
    for (name, value) in attributes(&event) {
        let member = format!("\"{name}\":\"{value}\",");
        let at = written.find(&member).unwrap_or_else(|| panic!("{member} in {written}"));
        assert!(before <= at, "{name}: {written}");
        before = at;
    }
    let value: serde_json::Value = serde_json::from_str(&written).unwrap();
    let proof: BTreeMap<String, String> =
        serde_json::from_str(value["hookbusproof"].as_str().unwrap()).unwrap();
    let signature = recorded_fact(file, "/demo_headers/FastPix-Signature");
    assert_eq!(proof, BTreeMap::from([("fastpix-signature".to_owned(), signature)]));
}

#[test]
fn a_line_stays_one_line_whatever_the_attributes_hold() {
    let body = r#"{"id":"a\n\"b\"\u0000","type":"\r\u2028é\\","object":{"id":"},{"}}"#;
    let event = event("fastpix", body);
    let written = line(&event);
    let value: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!((&value["id"], &value["type"]), (&"a\n\"b\"\0".into(), &"\r\u{2028}é\\".into()));
    assert_eq!(value["subject"], "},{");
    assert_eq!(recovered(&written), (body.as_bytes().to_vec(), true));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_body_comes_back_byte_for_byte(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            r#"[{}\[\]"\\:, \r\n01a-]{0,8}"#.prop_map(String::into_bytes),
            r#"[\[{ ]?("a"|\[|\]|[0-9]{1,3}|,|:|\{|\}| |\n){0,9}"#.prop_map(String::into_bytes),
        ],
        content_type in prop::option::of(prop::sample::select(vec!["application/json", "text/plain"])),
    ) {
        let extra: Vec<_> = content_type.iter().map(|value| ("content-type", *value)).collect();
        let event = event_with("fastpix", body.clone(), &extra);
        let written = line(&event);
        prop_assert_eq!(recovered(&written).0, body);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&written).is_ok(), "{}", written);
    }
}

/// What becomes of an unsigned request.
fn unsigned(scheme: &str, secrets: &[Secret], body: &[u8]) -> Result<(), Refusal> {
    let (verifier, _) = Verifier::new("in", Scheme::built_in(scheme).expect("it is built in"), None, secrets);
    let headers = HeaderMap::new();
    match verifier.examine(RequestHead { method: &Method::POST, query: None, headers: &headers })? {
        Examined::Claim(_) => panic!("{scheme}: nothing is claimed without a signature"),
        Examined::MaybeProbe(probe) => probe.check(body).map(drop),
        Examined::Handshake(_) => panic!("{scheme}: nobody asked"),
    }
}

#[test]
fn an_unsigned_test_of_the_url_is_told_by_its_body() {
    for secrets in [&[Secret::new(SECRET)][..], &[]] {
        for body in ["", "{}", " {} ", "\r\n{}\n", "  ", " ".repeat(16).as_str()] {
            assert_eq!(unsigned("fastpix", secrets, body.as_bytes()), Ok(()), "{body:?}");
        }
        let long = " ".repeat(17);
        for body in ["[]", "null", "{", "{}{}", "{ }", "x", r#"{"type":"video.media.ready"}"#, "{}\0", &long]
        {
            assert_eq!(
                unsigned("fastpix", secrets, body.as_bytes()),
                Err(Refusal::MissingHeader),
                "{body:?}"
            );
        }
    }
}

#[test]
fn only_fastpix_is_tested_unsigned_and_a_signed_request_needs_a_secret() {
    for scheme in Scheme::built_in_names().filter(|scheme| *scheme != "fastpix") {
        assert_eq!(unsigned(scheme, &[], b"{}"), Err(Refusal::InvalidSecret), "{scheme}");
    }
    assert_eq!(unsigned("github", &[Secret::new(SECRET)], b"{}"), Err(Refusal::MissingHeader));

    let (verifier, _) = Verifier::new("in", Scheme::built_in("fastpix").unwrap(), None, &[]);
    let headers =
        HeaderMap::from_iter([("fastpix-signature".parse().unwrap(), HeaderValue::from_static(SECRET))]);
    let examined = verifier.examine(RequestHead { method: &Method::POST, query: None, headers: &headers });
    assert_eq!(examined.err(), Some(Refusal::InvalidSecret));
}
