//! Requests that may be handshakes, and what becomes of them.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use hookbus_core::{
    HandshakeAnswer, Refusal, RequestHead, Scheme, Secret, Verifier,
    verify::{Examined, Received, ToSign},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

/// Every provider with handshakes.
pub(crate) const PROVIDERS: [&str; 10] =
    ["discord", "dropbox", "fastpix", "meta", "microsoft-graph", "okta", "slack", "twitch", "x", "zoom"];

/// The token that was agreed on.
pub(crate) const VERIFY_TOKEN: &str = "vt-agreed-on";

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) now: SystemTime,
}

impl Ask {
    pub(crate) fn post(body: &str) -> Self {
        let now = UNIX_EPOCH + Duration::from_secs(1_768_214_400);
        Self { method: Method::POST, query: None, headers: HeaderMap::new(), body: body.to_owned(), now }
    }

    pub(crate) fn get(query: &str) -> Self {
        Self { method: Method::GET, query: Some(query.to_owned()), ..Self::post("") }
    }

    pub(crate) fn meta(token: &str, challenge: &str) -> Self {
        Self::get(&format!("hub.mode=subscribe&hub.verify_token={token}&hub.challenge={challenge}"))
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).expect("a header takes it"));
        self
    }

    /// A request as it was recorded.
    pub(crate) fn recorded(request: &Value) -> Self {
        let mut ask = Self::post(request["body"].as_str().unwrap_or_default());
        ask.method = request["method"].as_str().expect("it has a method").parse().expect("it is one");
        for header in request["headers"].as_array().into_iter().flatten() {
            let text = |at: usize| header[at].as_str().expect("headers are texts");
            let name: HeaderName = text(0).parse().expect("it is a name");
            ask.headers.append(name, text(1).parse().expect("a header takes it"));
        }
        if let Some(query) = request["query"].as_object() {
            let pairs = query.iter().map(|(name, value)| (name, value.as_str().expect("values are texts")));
            ask.query = Some(form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish());
        }
        ask
    }
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Answer {
    Handshake(HandshakeAnswer),
    Refused(Refusal),
    Event,
}

/// The built-in scheme, or one of our own that names the handshake.
pub(crate) fn scheme(provider: &str) -> Arc<Scheme> {
    Scheme::built_in(provider).unwrap_or_else(|| {
        let text = format!(
            "alg = 'hmac-sha256'\nsig = {{ headers = ['x-sig'], encoding = 'hex' }}\nsigned = '{{body}}'\n\
             handshake = '{provider}'"
        );
        Arc::new(toml::from_str(&text).expect("it is sound"))
    })
}

/// What signs and what verifies.
pub(crate) fn secrets(provider: &str) -> (Secret, Secret) {
    made(provider, 7)
}

/// What somebody else signs with.
pub(crate) fn stranger(provider: &str) -> Secret {
    made(provider, 8).0
}

fn made(provider: &str, seed: u8) -> (Secret, Secret) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if provider == "discord" {
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        return (Secret::new(hex(key.as_bytes())), Secret::new(hex(key.verifying_key().as_bytes())));
    }
    // Also base64, as FastPix has it.
    let secret = Secret::new(hex(&[seed; 16]));
    (secret.clone(), secret)
}

/// Signs it like its provider does.
pub(crate) fn sign(provider: &str, secret: &Secret, ask: &mut Ask) {
    let (method, body, now) = (ask.method.clone(), ask.body.clone(), ask.now);
    let to_sign =
        ToSign { secret, method: &method, url: "", id: "1", event_type: "a", now, body: body.as_bytes() };
    for (name, value) in scheme(provider).sign(to_sign).expect("the secret fits") {
        ask.headers.insert(name, value);
    }
}

/// A verifier with the provider's scheme.
pub(crate) fn verifier(provider: &str, secrets: &[Secret], token: Option<&Secret>) -> Verifier {
    let (verifier, unusable) = Verifier::new(provider, scheme(provider), None, secrets);
    assert_eq!(unusable, []);
    match token {
        Some(token) => verifier.with_verify_token(token),
        None => verifier,
    }
}

/// What the ingress does with a request.
pub(crate) fn ask(verifier: &Verifier, ask: &Ask) -> Answer {
    let head = RequestHead { method: &ask.method, query: ask.query.as_deref(), headers: &ask.headers };
    let body = Bytes::from(ask.body.clone());
    let received = match verifier.examine(head) {
        Err(refusal) => return Answer::Refused(refusal),
        Ok(Examined::Handshake(answer)) => return Answer::Handshake(answer),
        Ok(Examined::MaybeProbe(probe)) => probe.check(&body).map(Received::Handshake),
        Ok(Examined::Claim(claim)) => claim.receive(body, ask.now),
    };
    match received {
        Ok(Received::Handshake(answer)) => Answer::Handshake(answer),
        Ok(Received::Event(_)) => Answer::Event,
        Err(refusal) => Answer::Refused(refusal),
    }
}
