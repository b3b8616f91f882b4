//! Tests of the URL, of every provider that has one: no panic, no event that nobody signed, and no answer beyond what
//! its provider's handshake is.
//!
//! Input: a byte that chooses the provider, one for the method (`p` is a POST that is signed), a line with the query,
//! lines `NAME: VALUE` up to an empty one, the body. `fuzz/seeds/handshake` has one for each recorded handshake.

#![no_main]

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use hookbus::core::{
    HandshakeAnswer, RequestHead, Scheme, Secret, Verifier,
    verify::{Examined, Received, ToSign},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

const PROVIDERS: [&str; 10] =
    ["discord", "dropbox", "fastpix", "meta", "microsoft-graph", "okta", "slack", "twitch", "x", "zoom"];

fuzz_target!(|data: &[u8]| {
    let [provider, method, rest @ ..] = data else { return };
    let provider = PROVIDERS[usize::from(*provider) % PROVIDERS.len()];
    let signed = *method == b'p';
    let method = match method {
        b'G' => Method::GET,
        b'H' => Method::HEAD,
        _ => Method::POST,
    };
    let (query, rest) = line(rest);
    let query = std::str::from_utf8(query).ok();
    let (mut headers, mut body) = (HeaderMap::new(), rest);
    while !body.is_empty() {
        let (header, behind) = line(body);
        body = behind;
        let Some(colon) = header.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(&header[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header[colon + 1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    let (private, public) = keys(provider);
    let scheme = scheme(provider);
    let now = UNIX_EPOCH + Duration::from_secs(1_768_000_000);
    if signed {
        let to_sign =
            ToSign { secret: &private, method: &method, url: "", id: "1", event_type: "a", now, body };
        for (name, value) in scheme.sign(to_sign).expect("the secret fits") {
            headers.insert(name, value);
        }
    }
    // A verify token that no input can know.
    let token = Secret::new("a token that was agreed on in secret");
    let verifier = Verifier::new(provider, scheme, None, &[public]).0.with_verify_token(&token);
    let request = RequestHead { method: &method, query, headers: &headers };
    let received = match verifier.examine(request) {
        Ok(Examined::Claim(claim)) => claim.receive(Bytes::copy_from_slice(body), now),
        Ok(Examined::MaybeProbe(probe)) => probe.check(body).map(Received::Handshake),
        Ok(Examined::Handshake(answer)) => Ok(Received::Handshake(answer)),
        Err(refusal) => Err(refusal),
    };
    match received {
        Ok(Received::Event(_)) => assert!(signed, "{provider}: an event nobody signed"),
        Ok(Received::Handshake(answer)) => {
            assert!(provider != "meta", "the token cannot be known");
            assert!(
                signed || !["discord", "slack", "twitch", "zoom"].contains(&provider),
                "{provider}: verified first"
            );
            check(provider, answer);
        }
        Err(_) => {}
    }
});

/// An answer is small, harmless to a browser, and JSON where it says so.
fn check(provider: &str, answer: HandshakeAnswer) {
    let json = answer.content_type() == Some("application/json");
    let body = answer.into_body();
    assert!(body.len() <= 512, "{provider}");
    if json {
        let value: serde_json::Value = serde_json::from_slice(&body).expect("it is JSON");
        assert!(value.is_object(), "{provider}");
    } else {
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b" -._~:/+=,".contains(byte);
        assert!(body.iter().all(harmless), "{provider}");
    }
}

fn line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, b""),
    }
}

/// What signs and what verifies: for Discord a pair (RFC 8032, section 7.1, test 1).
fn keys(provider: &str) -> (Secret, Secret) {
    let (private, public) = match provider {
        "discord" => (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        ),
        _ => ("aG9va2J1cyBmdXp6IHNlY3JldCBvZiAzMiBieXRlcyE=", "aG9va2J1cyBmdXp6IHNlY3JldCBvZiAzMiBieXRlcyE="),
    };
    (Secret::new(private), Secret::new(public))
}

fn scheme(provider: &str) -> Arc<Scheme> {
    Scheme::built_in(provider).unwrap_or_else(|| {
        let text = format!(
            r#"{{"alg":"hmac-sha256","sig":{{"headers":["x-sig"],"encoding":"hex"}},"signed":"{{body}}","handshake":"{provider}"}}"#
        );
        Arc::new(serde_json::from_str(&text).expect("it is sound"))
    })
}
