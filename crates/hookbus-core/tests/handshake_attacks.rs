//! Handshakes that return a MAC as oracles: each attack is shown to work without the rule, and to fail with it.

#![allow(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod asking;

use std::time::UNIX_EPOCH;

use asking::{Answer, Ask, VERIFY_TOKEN, ask, scheme, secrets, sign, verifier};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookbus_core::{Refusal, Scheme, Secret, Verifier};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;

/// What an oracle without rules would return for a text of the attacker's choice.
fn oracle(secret: &Secret, text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A GET with this as a parameter, encoded.
fn get(name: &str, value: &str) -> Ask {
    Ask::get(&form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish())
}

fn json_of(answer: Answer) -> Value {
    let Answer::Handshake(answer) = answer else { panic!("it is answered") };
    serde_json::from_slice(&answer.into_body()).unwrap()
}

/// The same scheme without its handshake: what it was before there was one.
fn without_handshake(text: &str, secret: &Secret) -> Verifier {
    let scheme: Scheme = toml::from_str(text).unwrap();
    Verifier::new("in", scheme.into(), None, std::slice::from_ref(secret)).0
}

#[test]
fn x_signs_no_event_that_is_asked_for_as_a_challenge() {
    let secret = secrets("x").1;
    let verifier = verifier("x", std::slice::from_ref(&secret), None);
    let event = r#"{"for_user_id":"1","direct_message_events":[{"id":"forged"}]}"#;
    // What the challenge is answered is, without the rule, the signature of an event that says the same.
    let signature = format!("sha256={}", STANDARD.encode(oracle(&secret, event.as_bytes())));
    let forged = Ask::post(event).with("x-twitter-webhooks-signature", &signature);
    assert!(matches!(ask(&verifier, &forged), Answer::Event));
    // With it that is no challenge, however it is written.
    for asked in [
        get("crc_token", event),
        Ask::get(&format!("crc_token={event}")),
        Ask { query: get("crc_token", event).query, ..Ask::post("") },
    ] {
        let answer = ask(&verifier, &asked);
        assert!(
            matches!(answer, Answer::Refused(Refusal::MalformedChallenge | Refusal::MissingHeader)),
            "{answer:?}"
        );
    }
}

#[test]
fn a_body_that_x_could_have_been_asked_to_sign_is_no_event() {
    let secret = secrets("x").1;
    // Each of these is a JSON document or at least a body, and a challenge as well.
    for body in ["12345", "true", "-1", "event_1", &"9".repeat(64)] {
        let verifier = verifier("x", std::slice::from_ref(&secret), None);
        let answer = json_of(ask(&verifier, &get("crc_token", body)));
        let signature = answer["response_token"].as_str().unwrap();
        let forged = Ask::post(body).with("x-twitter-webhooks-signature", signature);
        // What the oracle said is the right signature; a scheme that answers no challenges takes it.
        let plain = without_handshake(
            "alg='hmac-sha256'\nsigned='{body}'\nsig={headers=['x-twitter-webhooks-signature'],kv-sep='=',\
             tags=['sha256'],encoding='base64'}",
            &secret,
        );
        assert!(matches!(ask(&plain, &forged), Answer::Event), "{body}");
        let answer = ask(&verifier, &forged);
        assert!(matches!(answer, Answer::Refused(Refusal::SignatureMismatch)), "{body}: {answer:?}");
    }
}

#[test]
fn zoom_signs_nothing_for_those_who_cannot_sign_and_no_event_for_those_who_can() {
    let secret = secrets("zoom").1;
    let verifier = verifier("zoom", std::slice::from_ref(&secret), None);
    let (event, ts) = (r#"{"event":"meeting.ended","payload":{"object":{"id":"1"}}}"#, "1768214400");
    let wanted = format!("v0:{ts}:{event}");
    // Without the rule: the answer to this plainToken is the signature of the event.
    let signature = format!("v0={}", hex(&oracle(&secret, wanted.as_bytes())));
    let forged = Ask::post(event).with("x-zm-signature", &signature).with("x-zm-request-timestamp", ts);
    assert_eq!(forged.now.duration_since(UNIX_EPOCH).unwrap().as_secs().to_string(), ts);
    assert!(matches!(ask(&verifier, &forged), Answer::Event));

    let validation = |token: &str| {
        Ask::post(
            &json!({ "event": "endpoint.url_validation", "payload": { "plainToken": token } }).to_string(),
        )
    };
    // Nobody gets any MAC who cannot sign, be the token well formed or not.
    for token in [wanted.as_str(), "well-formed"] {
        let answer = ask(&verifier, &validation(token));
        assert!(matches!(answer, Answer::Refused(Refusal::MissingHeader)), "{answer:?}");
        let mut by_stranger = validation(token);
        sign("zoom", &asking::stranger("zoom"), &mut by_stranger);
        let answer = ask(&verifier, &by_stranger);
        assert!(matches!(answer, Answer::Refused(Refusal::SignatureMismatch)), "{answer:?}");
    }
    // Not even the provider gets one of what could be an event.
    let mut authentic = validation(&wanted);
    sign("zoom", &secret, &mut authentic);
    let answer = ask(&verifier, &authentic);
    assert!(matches!(answer, Answer::Refused(Refusal::MalformedChallenge)), "{answer:?}");
    let mut authentic = validation("well-formed");
    sign("zoom", &secret, &mut authentic);
    let answer = json_of(ask(&verifier, &authentic));
    assert_eq!(answer["encryptedToken"], hex(&oracle(&secret, b"well-formed")));
    // A body cannot be changed under its signature to have another token signed.
    authentic.body = authentic.body.replace("well-formed", "another-one");
    let answer = ask(&verifier, &authentic);
    assert!(matches!(answer, Answer::Refused(Refusal::SignatureMismatch)), "{answer:?}");
}

#[test]
fn the_key_of_a_mac_is_the_one_that_signed() {
    let (old, new) = (Secret::new("the old secret of zoom"), Secret::new("the new secret of zoom"));
    let verifier = verifier("zoom", &[old.clone(), new.clone()], None);
    for secret in [&old, &new] {
        let mut request = Ask::post(r#"{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}"#);
        sign("zoom", secret, &mut request);
        assert_eq!(json_of(ask(&verifier, &request))["encryptedToken"], hex(&oracle(secret, b"abc")));
    }
}

#[test]
fn a_scheme_of_ones_own_that_signs_the_bare_body_is_no_oracle_either() {
    let secret = Secret::new("a secret that signs bare bodies");
    for handshake in ["x", "zoom"] {
        let rules = "alg='hmac-sha256'\nsigned='{body}'\nsig={headers=['x-sig'],encoding='hex'}";
        let with: Scheme = toml::from_str(&format!("{rules}\nhandshake='{handshake}'")).unwrap();
        let with = Verifier::new("in", with.into(), None, std::slice::from_ref(&secret)).0;
        let forged = Ask::post("true").with("x-sig", &hex(&oracle(&secret, b"true")));
        assert!(matches!(ask(&without_handshake(rules, &secret), &forged), Answer::Event));
        assert!(matches!(ask(&with, &forged), Answer::Refused(Refusal::SignatureMismatch)), "{handshake}");
    }
}

#[test]
fn nothing_that_a_browser_or_a_header_could_take_for_more_is_echoed() {
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x>",
        "&lt;",
        "a\r\nSet-Cookie: x=y",
        "a\nb",
        "\0",
        "\u{202e}",
        "é",
        "javascript:alert`1`",
        "{\"a\":1}",
        "",
    ];
    let token = Secret::new(VERIFY_TOKEN);
    for text in hostile.map(str::to_owned).into_iter().chain(["x".repeat(513)]) {
        for (provider, parameter) in [
            ("dropbox", "challenge"),
            ("meta", "hub.challenge"),
            ("microsoft-graph", "validationToken"),
            ("x", "crc_token"),
        ] {
            let mut asked = get(parameter, &text);
            if provider == "meta" {
                let query = asked.query.unwrap();
                asked.query = Some(format!("hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}&{query}"));
            }
            let answer = ask(&verifier(provider, &[secrets(provider).1], Some(&token)), &asked);
            assert!(
                matches!(answer, Answer::Refused(Refusal::MalformedChallenge)),
                "{provider}: {text:?}: {answer:?}"
            );
        }
    }
}

#[test]
fn the_verify_token_is_needed_whole() {
    let token = Secret::new(VERIFY_TOKEN);
    let verifier_ = verifier("meta", &[], Some(&token));
    assert!(matches!(ask(&verifier_, &Ask::meta(VERIFY_TOKEN, "1")), Answer::Handshake(_)));
    let upper = VERIFY_TOKEN.to_uppercase();
    let longer = format!("{VERIFY_TOKEN}x");
    for wrong in ["", "x", &VERIFY_TOKEN[1..], &upper, &longer, "%00"] {
        let answer = ask(&verifier_, &Ask::meta(wrong, "1"));
        assert!(matches!(answer, Answer::Refused(Refusal::WrongVerifyToken)), "{wrong}: {answer:?}");
    }
    let none = Ask::get("hub.mode=subscribe&hub.challenge=1");
    assert!(matches!(ask(&verifier_, &none), Answer::Refused(Refusal::WrongVerifyToken)));
    // Where none is configured none is right, the empty one least of all.
    let without = verifier("meta", &[], None);
    assert!(matches!(ask(&without, &Ask::meta("", "1")), Answer::Refused(Refusal::WrongVerifyToken)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_an_oracle_signs_is_the_signature_of_no_event(
        text in prop_oneof!["[A-Za-z0-9_-]{0,66}", "[ -~]{0,66}"], ts in "[0-9]{1,10}",
    ) {
        for provider in ["x", "zoom"] {
            let secret = secrets(provider).1;
            let verifier = verifier(provider, std::slice::from_ref(&secret), None);
            let mac = if provider == "x" {
                match ask(&verifier, &get("crc_token", &text)) {
                    Answer::Handshake(answer) => answer.into_body(),
                    _ => continue,
                }
            } else {
                let mut asked = Ask::post(
                    &json!({ "event": "endpoint.url_validation", "payload": { "plainToken": text } }).to_string(),
                );
                sign("zoom", &secret, &mut asked);
                match ask(&verifier, &asked) {
                    Answer::Handshake(answer) => answer.into_body(),
                    _ => continue,
                }
            };
            let said: Value = serde_json::from_slice(&mac).unwrap();
            let (name, signature) = match provider {
                "x" => ("x-twitter-webhooks-signature", said["response_token"].as_str().unwrap().to_owned()),
                _ => ("x-zm-signature", format!("v0={}", said["encryptedToken"].as_str().unwrap())),
            };
            let forged = Ask::post(&text).with(name, &signature).with("x-zm-request-timestamp", &ts);
            prop_assert!(matches!(ask(&verifier, &forged), Answer::Refused(_)), "{}: {}", provider, text);
            prop_assert!(scheme(provider).handshake() == Some(provider));
        }
    }
}
