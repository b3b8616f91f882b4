//! Runs the recorded handshakes, and holds every answer against the conditions of its provider, stated once more.

#![allow(clippy::unwrap_used, reason = "a broken vector file fails the test")]

mod asking;

use std::{fs, path::Path, time::Duration};

use asking::{Answer, Ask, VERIFY_TOKEN, ask, secrets, sign, verifier};
use hookbus_core::{Refusal, Secret};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    provider: String,
    name: String,
    #[serde(default)]
    config: Value,
    secrets: Option<Vec<String>>,
    now: Option<u64>,
    request: Value,
    response: Value,
}

#[test]
fn every_recorded_handshake_is_answered_to_the_byte() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/handshakes.json");
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 13);
    for case in &cases {
        let name = format!("{} {}", case.provider, case.name);
        let mut request = Ask::recorded(&case.request);
        if let Some(now) = case.now {
            request.now = std::time::UNIX_EPOCH + Duration::from_secs(now);
        }
        let mut keys = secrets(&case.provider);
        if let Some(recorded) = &case.secrets {
            let secret = Secret::new(recorded[0].as_str());
            keys = (secret.clone(), secret);
        }
        // Twitch's is recorded with its signature.
        if ["slack", "zoom", "discord"].contains(&case.provider.as_str()) {
            sign(&case.provider, &keys.0, &mut request);
        }
        let token = case.config["verify_token"].as_str().map(Secret::new);
        let verifier = verifier(&case.provider, &[keys.1], token.as_ref());
        let expected = &case.response;
        match ask(&verifier, &request) {
            Answer::Event => panic!("{name}: this would be published"),
            Answer::Refused(refusal) => {
                let status = if refusal.is_of_handshake() { 403 } else { 401 };
                assert_eq!(expected["status"], status, "{name}: {refusal}");
            }
            Answer::Handshake(answer) => {
                assert_eq!(expected["status"], answer.status().as_u16(), "{name}");
                if let Some(content_type) = expected["content_type"].as_str() {
                    assert_eq!(answer.content_type(), Some(content_type), "{name}");
                }
                let body = answer.into_body();
                if let Some(text) = expected["body"].as_str() {
                    assert_eq!(body, text, "{name}");
                }
                if let Some(json) = expected.get("json") {
                    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), *json, "{name}");
                }
            }
        }
    }
}

#[test]
fn without_a_secret_the_unsigned_ones_are_answered_and_the_others_are_to_come_again() {
    for (provider, request, answered) in [
        ("fastpix", Ask::post(""), true),
        ("meta", Ask::meta(VERIFY_TOKEN, "1"), true),
        ("dropbox", Ask::get("challenge=1"), true),
        ("microsoft-graph", Ask { query: Some("validationToken=1".into()), ..Ask::post("") }, true),
        ("okta", Ask::get("").with("x-okta-verification-challenge", "1"), true),
        ("x", Ask::get("crc_token=1"), false),
        ("slack", Ask::post(r#"{"type":"url_verification","challenge":"1"}"#), false),
        ("zoom", Ask::post(r#"{"event":"endpoint.url_validation","payload":{"plainToken":"1"}}"#), false),
        ("discord", Ask::post(r#"{"type":1}"#), false),
    ] {
        let verifier = verifier(provider, &[], Some(&Secret::new(VERIFY_TOKEN)));
        match ask(&verifier, &request) {
            Answer::Handshake(_) => assert!(answered, "{provider}"),
            Answer::Refused(refusal) => {
                assert!(!answered, "{provider}");
                assert_eq!(refusal, Refusal::InvalidSecret, "{provider}");
            }
            Answer::Event => panic!("{provider}"),
        }
    }
}

#[test]
fn events_that_look_a_little_like_handshakes_are_events() {
    for (provider, body) in [
        ("slack", r#"{"type":"event_callback","challenge":"x","event":{"type":"message"}}"#),
        ("zoom", r#"{"event":"meeting.started","payload":{"plainToken":"x"}}"#),
        // A Discord event has the type of an interaction's ping.
        ("discord", r#"{"version":1,"type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}"#),
        ("discord", r#"{"type":2,"data":{}}"#),
        ("twitch", r#"{"challenge":"x","subscription":{"id":"1"}}"#),
        ("meta", r#"{"object":"page","hub.challenge":"x"}"#),
        ("microsoft-graph", r#"{"value":[{"validationToken":"x"}]}"#),
        ("x", r#"{"for_user_id":"1","crc_token":"x"}"#),
        ("fastpix", r#"{}"#),
    ] {
        let keys = secrets(provider);
        let mut request = Ask::post(body);
        sign(provider, &keys.0, &mut request);
        let verifier = verifier(provider, &[keys.1], None);
        assert!(matches!(ask(&verifier, &request), Answer::Event), "{provider}: {body}");
    }
}

#[test]
fn a_signed_handshake_without_what_it_needs_is_refused_and_not_published() {
    for (provider, body, why) in [
        ("slack", json!({ "type": "url_verification" }), Refusal::MissingChallenge),
        (
            "slack",
            json!({ "type": "url_verification", "challenge": "<script>" }),
            Refusal::MalformedChallenge,
        ),
        (
            "slack",
            json!({ "type": "url_verification", "challenge": "x".repeat(513) }),
            Refusal::MalformedChallenge,
        ),
        (
            "slack",
            json!({ "type": "url_verification", "challenge": "a\r\nx: y" }),
            Refusal::MalformedChallenge,
        ),
        ("zoom", json!({ "event": "endpoint.url_validation" }), Refusal::MissingChallenge),
        (
            "zoom",
            json!({ "event": "endpoint.url_validation", "payload": { "plainToken": "v0:1:{}" } }),
            Refusal::MalformedChallenge,
        ),
    ] {
        let keys = secrets(provider);
        let mut request = Ask::post(&body.to_string());
        sign(provider, &keys.0, &mut request);
        let verifier = verifier(provider, &[keys.1], None);
        match ask(&verifier, &request) {
            Answer::Refused(refusal) => assert_eq!(refusal, why, "{provider}: {body}"),
            _ => panic!("{provider}: {body}"),
        }
    }
}

#[test]
fn a_parameter_that_is_there_twice_is_no_choice() {
    let verifier = verifier("meta", &[], Some(&Secret::new(VERIFY_TOKEN)));
    let right = format!("hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}&hub.challenge=1");
    assert!(matches!(ask(&verifier, &Ask::get(&right)), Answer::Handshake(_)));
    for more in ["hub.challenge=2", "hub.verify_token=wrong", "hub.mode=unsubscribe", "hub%2Emode=subscribe"]
    {
        let twice = Ask::get(&format!("{right}&{more}"));
        assert!(matches!(ask(&verifier, &twice), Answer::Refused(Refusal::MalformedChallenge)), "{more}");
    }
}

#[test]
fn what_an_answer_shows_of_itself_is_not_its_body() {
    let Answer::Handshake(answer) = ask(&verifier("dropbox", &[], None), &Ask::get("challenge=abc123"))
    else {
        panic!("a challenge is answered");
    };
    let shown = format!("{answer:?}");
    assert!(shown.contains("dropbox challenge") && !shown.contains("abc123"), "{shown}");
}

/// Words that requests are made of, right ones and wrong ones.
fn words() -> impl Strategy<Value = String> {
    let known = [
        "subscribe",
        VERIFY_TOKEN,
        "url_verification",
        "endpoint.url_validation",
        "webhook_callback_verification",
        "1",
        "0",
        "abc-DEF_123",
        "<b>",
        "a b",
        "v0:1:x",
        "é",
        "\r\n",
        "",
    ];
    prop_oneof![
        8 => prop::sample::select(known.map(str::to_owned).to_vec()),
        1 => "[ -~]{0,70}",
        1 => Just("x".repeat(600)),
    ]
}

fn anything() -> impl Strategy<Value = Ask> {
    let parameters = [
        "hub.mode",
        "hub.verify_token",
        "hub.challenge",
        "challenge",
        "crc_token",
        "validationToken",
        "nonce",
    ];
    let query = prop::collection::vec((prop::sample::select(parameters.to_vec()), words()), 0..5);
    let members = ["type", "challenge", "event"];
    let body = (
        prop::collection::vec((prop::sample::select(members.to_vec()), words()), 0..4),
        prop::option::of(words()),
        any::<bool>(),
    );
    let body = body.prop_map(|(members, plain, number)| {
        let mut body = json!({});
        for (name, value) in members {
            body[name] =
                if number { value.parse::<u64>().map_or(value.into(), Value::from) } else { value.into() };
        }
        if let Some(plain) = plain {
            body["payload"] = json!({ "plainToken": plain });
        }
        body.to_string()
    });
    let body = prop_oneof![6 => body, 1 => Just(String::new()), 1 => Just("{}".to_owned()), 1 => words()];
    let header = prop::option::of(prop_oneof![
        words().prop_map(|value| ("twitch-eventsub-message-type", value)),
        words().prop_map(|value| ("x-okta-verification-challenge", value)),
    ]);
    (prop::sample::select(vec!["GET", "POST", "HEAD", "PUT"]), query, body, header).prop_map(
        |(method, query, body, header)| {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            let mut ask = Ask { query: Some(query), ..Ask::post(&body) };
            ask.method = method.parse().unwrap();
            match header {
                Some((name, value)) if value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
                    ask.with(name, &value)
                }
                _ => ask,
            }
        },
    )
}

/// The conditions of each provider in plain words of Rust, apart from the table.
fn may_be_answered(provider: &str, ask: &Ask, signed: bool) -> bool {
    let query = ask.query.as_deref().unwrap_or_default();
    let parameter = |name: &str| {
        let all: Vec<_> =
            form_urlencoded::parse(query.as_bytes()).filter(|(known, _)| known == name).collect();
        if let [(_, value)] = &all[..] { Some(value.to_string()) } else { None }
    };
    let body: Value = serde_json::from_str(&ask.body).unwrap_or_default();
    let text = |pointer| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let is = |pointer, number: &str| {
        let value = body.pointer(pointer);
        value
            .is_some_and(|value| value == number || value.as_u64().is_some_and(|it| number.parse() == Ok(it)))
    };
    let header = |name| ask.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let narrow = |text: Option<String>| {
        text.is_some_and(|text| {
            (1..=64).contains(&text.len())
                && text.chars().all(|one| one.is_ascii_alphanumeric() || one == '_' || one == '-')
        })
    };
    let wide = |text: Option<String>| {
        text.is_some_and(|text| {
            (1..=512).contains(&text.len())
                && text.chars().all(|one| one.is_ascii_alphanumeric() || " -._~:/+=,".contains(one))
        })
    };
    let (get, post) = (ask.method == "GET", ask.method == "POST");
    match provider {
        "fastpix" => !signed && ["", "{}"].contains(&ask.body.trim()),
        "meta" => {
            get && parameter("hub.mode").as_deref() == Some("subscribe")
                && parameter("hub.verify_token").as_deref() == Some(VERIFY_TOKEN)
                && wide(parameter("hub.challenge"))
        }
        "dropbox" => get && wide(parameter("challenge")),
        "microsoft-graph" => (get || post) && wide(parameter("validationToken")),
        "okta" => get && narrow(header("x-okta-verification-challenge")),
        "x" => get && narrow(parameter("crc_token")),
        "slack" => signed && is("/type", "url_verification") && wide(text("/challenge")),
        "zoom" => signed && is("/event", "endpoint.url_validation") && narrow(text("/payload/plainToken")),
        "twitch" => {
            let kind = header("twitch-eventsub-message-type");
            signed && kind.as_deref() == Some("webhook_callback_verification") && wide(text("/challenge"))
        }
        "discord" => signed && (is("/type", "1") || is("/type", "0")),
        other => panic!("{other} has no handshake"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_is_given_without_its_conditions(ask_ in anything(), signed in any::<bool>(), forged in any::<bool>()) {
        for provider in asking::PROVIDERS {
            let keys = secrets(provider);
            let mut request = ask_.clone();
            if signed {
                sign(provider, &keys.0, &mut request);
            } else if forged {
                sign(provider, &asking::stranger(provider), &mut request);
            }
            let verifier = verifier(provider, &[keys.1], Some(&Secret::new(VERIFY_TOKEN)));
            let may = may_be_answered(provider, &request, signed)
                // A signature that is there is no unsigned probe.
                && !(provider == "fastpix" && forged);
            match ask(&verifier, &request) {
                Answer::Handshake(answer) => {
                    prop_assert!(may, "{}: {:?} {:?}", provider, request, answer);
                    let body = answer.into_body();
                    prop_assert!(body.len() <= 512 && !body.contains(&b'<'), "{}", provider);
                }
                Answer::Event => {
                    prop_assert!(signed && !may, "{}: {:?} is published", provider, request);
                }
                Answer::Refused(_) => prop_assert!(!may, "{}: {:?} is not answered", provider, request),
            }
        }
    }
}
