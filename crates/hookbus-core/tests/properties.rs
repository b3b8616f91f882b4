//! What holds for every built-in scheme, whatever the secret and the body are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hookbus_core::{
    IdOrigin, Refusal, RequestHead, Scheme, Secret, VerifiedEvent, Verifier,
    verify::{Examined, Signed, ToSign},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use proptest::{prelude::*, sample::Index};

const PUBLIC_URL: &str = "https://hooks.example.com/in";

fn schemes() -> Vec<&'static str> {
    let names: Vec<_> = Scheme::built_in_names().collect();
    assert_eq!(names.len(), 38, "a new scheme may want another kind of key: see `keys`");
    names
}

/// Both ends of a secret as the scheme writes it down; they differ where a key pair signs.
struct Keys {
    signs: Secret,
    verifies: Secret,
}

fn keys(scheme: &str, seed: [u8; 32]) -> Keys {
    let pair =
        |signs: String, verifies: String| Keys { signs: Secret::new(signs), verifies: Secret::new(verifies) };
    let shared = |text: String| pair(text.clone(), text);
    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&seed);
    match scheme {
        "fastpix" => shared(STANDARD.encode(seed)),
        "standard-webhooks" | "svix" => shared(format!("whsec_{}", STANDARD.encode(seed))),
        "adyen-platform" => shared(hex(&seed)),
        "discord" => pair(hex(&seed), hex(ed25519.verifying_key().as_bytes())),
        "standard-webhooks-v1a" => {
            let text = |bytes: &[u8]| format!("whpk_{}", STANDARD.encode(bytes));
            pair(text(&ed25519.to_keypair_bytes()), text(ed25519.verifying_key().as_bytes()))
        }
        "sendgrid" => {
            let key = p256::ecdsa::SigningKey::from_slice(&seed).expect("seeds are below the group's order");
            let public = key.verifying_key().to_public_key_der().expect("a public key has a DER form");
            let private = key.to_pkcs8_der().expect("a private key has a DER form");
            pair(STANDARD.encode(private.as_bytes()), STANDARD.encode(public.as_bytes()))
        }
        "gitlab-token" => shared(format!("glpat {}", hex(&seed))),
        // Also keys longer than the block of a hash, and text beyond ASCII.
        _ => shared(format!("schlüssel {}", hex(&seed).repeat(1 + usize::from(seed[31] % 4)))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seeds() -> impl Strategy<Value = [u8; 32]> {
    // The first byte keeps a seed between zero and the order of P-256.
    any::<[u8; 32]>()
        .prop_map(|seed| [[1].as_slice(), &seed[1..]].concat().try_into().expect("still 32 bytes"))
}

#[derive(Clone, Debug)]
struct Request {
    now: SystemTime,
    method: Method,
    query: Option<String>,
    id: String,
    event_type: String,
    body: Vec<u8>,
}

fn requests() -> impl Strategy<Value = Request> {
    let now = (1_000_000_000_u64..4_000_000_000, 0_u32..1_000_000_000)
        .prop_map(|(secs, nanos)| UNIX_EPOCH + Duration::new(secs, nanos));
    let method = prop::sample::select(vec![Method::POST, Method::PUT, Method::PATCH]);
    let query = prop::option::of("[!-~&&[^?]]{0,20}");
    (now, method, query, "[!-~]{1,40}", "[!-~]{1,40}", bodies()).prop_map(
        |(now, method, query, id, event_type, body)| Request { now, method, query, id, event_type, body },
    )
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let json = (any::<String>(), any::<i64>(), "[a-z.]{0,20}", any::<bool>()).prop_map(|(text, number, name, wide)| {
        let event = serde_json::json!({ "id": number, "type": name, "object": { "id": text }, "created_at": text });
        let event = serde_json::json!({ "events": [event, event], "event": event, "data": event, "id": text });
        if wide { serde_json::to_vec_pretty(&event) } else { serde_json::to_vec(&event) }.expect("JSON has a text")
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..300), json]
}

impl Request {
    /// The body a provider of this scheme could send: Linear's carries the timestamp.
    fn body(&self, scheme: &str) -> Bytes {
        match scheme {
            "linear" => {}
            // No body of X's has the form of a challenge.
            "x" => return Bytes::from([b"{", &self.body[..]].concat()),
            _ => return Bytes::from(self.body.clone()),
        }
        let millis = self.now.duration_since(UNIX_EPOCH).expect("times are after 1970").as_millis();
        let data: serde_json::Value =
            serde_json::from_slice(&self.body).unwrap_or_else(|_| hex(&self.body).into());
        Bytes::from(format!("{{\"data\":{data}, \"webhookTimestamp\": {millis}}}\n"))
    }

    fn sign(&self, scheme: &str, secret: &Secret) -> Signed {
        let url = self
            .query
            .as_ref()
            .map_or_else(|| PUBLIC_URL.to_owned(), |query| format!("{PUBLIC_URL}?{query}"));
        let (id, event_type, body) = (&self.id, &self.event_type, self.body(scheme));
        let to_sign =
            ToSign { secret, method: &self.method, url: &url, id, event_type, now: self.now, body: &body };
        Scheme::built_in(scheme)
            .expect("it is built in")
            .sign(to_sign)
            .unwrap_or_else(|error| panic!("{scheme}: {error}"))
    }

    /// What a verifier with these secrets makes of the request. A test of the URL is no event.
    fn verify(
        &self,
        scheme: &str,
        secrets: &[&Secret],
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<VerifiedEvent, Refusal> {
        let rules = Scheme::built_in(scheme).expect("it is built in");
        let secrets: Vec<_> = secrets.iter().copied().cloned().collect();
        let (verifier, unusable) = Verifier::new("source", rules, Some(PUBLIC_URL.to_owned()), &secrets);
        let empty = secrets.iter().filter(|secret| secret.is_empty()).count();
        assert_eq!(
            unusable.len(),
            empty,
            "{scheme}: every secret but the empty ones is usable: {unusable:?}"
        );
        match verifier.examine(RequestHead { method: &self.method, query: self.query.as_deref(), headers })? {
            Examined::Claim(claim) => claim.verify(body.clone(), self.now),
            Examined::MaybeProbe(_) | Examined::Handshake(_) => Err(Refusal::MissingHeader),
        }
    }
}

fn header_map(signed: &Signed) -> HeaderMap {
    signed.iter().cloned().collect()
}

/// The headers that may carry a signature or token, and every other one the scheme reads.
fn header_names(scheme: &str, signature: &HeaderName) -> (Vec<HeaderName>, Vec<HeaderName>) {
    let rules = Scheme::built_in(scheme).expect("it is built in");
    let bearer = rules.bearer_headers().map(|name| name.parse().expect("it is a header name"));
    let all: Vec<HeaderName> = bearer.chain(rules.proof_headers()).collect();
    assert_eq!(&all[0], signature, "{scheme}: the signature goes into the first signature header");
    let several = match scheme {
        "box" => 2,
        "docusign" => 3,
        _ => 1,
    };
    (all[..several].to_vec(), all[several..].to_vec())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_signed_verifies_and_keeps_its_body(request in requests(), seed in seeds(), age in 0_u64..=5) {
        for scheme in schemes() {
            let keys = keys(scheme, seed);
            let (headers, body) = (header_map(&request.sign(scheme, &keys.signs)), request.body(scheme));
            let later = Request { now: request.now + Duration::from_secs(age), ..request.clone() };
            let event = later.verify(scheme, &[&keys.verifies], &headers, &body);
            let event = event.map_err(|refusal| TestCaseError::fail(format!("{scheme}: {refusal}")))?;
            prop_assert_eq!(event.body(), &body, "{}", scheme);
            prop_assert_eq!(event.received(), later.now, "{}", scheme);
            prop_assert!(!event.id().as_str().is_empty() && !event.event_type().is_empty(), "{}", scheme);
        }
    }

    #[test]
    fn a_flipped_bit_in_the_body_refuses(request in requests(), seed in seeds(), at in any::<Index>(), bit in 0_u32..8) {
        for scheme in schemes() {
            let keys = keys(scheme, seed);
            let headers = header_map(&request.sign(scheme, &keys.signs));
            let mut body = request.body(scheme).to_vec();
            if body.is_empty() {
                continue;
            }
            let at = at.index(body.len());
            body[at] ^= 1_u8 << bit;
            let body = Bytes::from(body);
            match request.verify(scheme, &[&keys.verifies], &headers, &body) {
                // A token proves nothing about the body.
                Ok(event) => prop_assert!(scheme == "gitlab-token" && event.body() == &body, "{} verified", scheme),
                Err(refusal) => {
                    prop_assert_eq!(refusal, Refusal::SignatureMismatch, "{}", scheme);
                    prop_assert_ne!(scheme, "gitlab-token");
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_of_the_signature_refuses(
        request in requests(), seed in seeds(), at in any::<Index>(), byte in any::<u8>(),
    ) {
        for scheme in schemes() {
            let keys = keys(scheme, seed);
            let signed = request.sign(scheme, &keys.signs);
            let (name, value) = signed.last().expect("the signature comes last");
            let mut changed = value.as_bytes().to_vec();
            let at = at.index(changed.len());
            changed[at] = byte;
            let Ok(changed) = HeaderValue::from_bytes(&changed) else { continue };
            if changed == value {
                continue;
            }
            let mut headers = header_map(&signed);
            headers.insert(name, changed.clone());
            let verdict = request.verify(scheme, &[&keys.verifies], &headers, &request.body(scheme));
            prop_assert!(verdict.is_err(), "{} took {:?} for {:?}", scheme, changed, value);
        }
    }

    #[test]
    fn garbage_never_panics_and_never_verifies(
        request in requests(),
        other in requests(),
        (seed, stranger) in (seeds(), seeds()),
        authentic_form in any::<bool>(),
        garbage in prop::collection::vec((any::<Index>(), garbage(), any::<bool>()), 0..12),
    ) {
        prop_assume!(seed != stranger);
        for scheme in schemes() {
            let signed = request.sign(scheme, &keys(scheme, stranger).signs);
            let (signature, rest) = header_names(scheme, &signed.last().expect("the signature comes last").0);
            let names: Vec<_> = signature.iter().chain(&rest).collect();
            // Well formed but for the signature, so that the garbage gets past the first checks.
            let mut headers = if authentic_form { header_map(&signed) } else { HeaderMap::new() };
            for (name, value, twice) in &garbage {
                let name = names[name.index(names.len())];
                if *twice { headers.append(name, value.clone()); } else { headers.insert(name, value.clone()); }
            }
            let secret = &keys(scheme, seed).verifies;
            for body in [request.body(scheme), Bytes::from(other.body.clone())] {
                let verdict = request.verify(scheme, &[secret], &headers, &body);
                prop_assert!(verdict.is_err(), "{} took {:?}", scheme, headers);
                prop_assert_ne!(verdict.err(), Some(Refusal::InvalidSecret), "{}", scheme);
            }
        }
    }

    #[test]
    fn either_of_two_secrets_counts_and_no_third(
        request in requests(), (old, new, third) in (seeds(), seeds(), seeds()),
    ) {
        prop_assume!(old != new && new != third && old != third);
        for scheme in schemes() {
            let (old, new, third) = (keys(scheme, old), keys(scheme, new), keys(scheme, third));
            let body = request.body(scheme);
            // Where each secret has its own header, `place` is the one a signature arrives in.
            let refusal = |signer: &Keys, secrets: [&Secret; 2], place: usize| {
                let mut signed = request.sign(scheme, &signer.signs);
                let (name, value) = signed.pop().expect("the signature comes last");
                signed.push((header_names(scheme, &name).0[place].clone(), value));
                request.verify(scheme, &secrets, &header_map(&signed), &body).err()
            };
            let (both, mismatch) = ([&old.verifies, &new.verifies], Some(Refusal::SignatureMismatch));
            let unusable = Secret::new("");
            prop_assert_eq!(refusal(&old, both, 0), None, "{}: the first secret", scheme);
            prop_assert_eq!(refusal(&third, both, 0), mismatch, "{}: a third secret", scheme);
            let (pairwise, second) = if scheme == "box" { (true, 1) } else { (false, 0) };
            prop_assert_eq!(refusal(&new, both, second), None, "{}: the second secret", scheme);
            prop_assert_eq!(refusal(&new, [&unusable, &new.verifies], second), None, "{}: beside an unusable one", scheme);
            if pairwise {
                prop_assert_eq!(refusal(&new, both, 0), mismatch, "{}: the second secret, first header", scheme);
                prop_assert_eq!(refusal(&old, both, 1), mismatch, "{}: the first secret, second header", scheme);
                prop_assert_eq!(refusal(&third, both, 1), mismatch, "{}: a third secret, second header", scheme);
            }
        }
    }

    #[test]
    fn whoever_cannot_sign_changes_no_attribute_that_counts_as_signed(
        request in requests(), seed in seeds(), at in any::<Index>(), value in prop_oneof![garbage(), plausible()],
    ) {
        for scheme in schemes() {
            let keys = keys(scheme, seed);
            let (signed, body) = (request.sign(scheme, &keys.signs), request.body(scheme));
            let (_, mut others) = header_names(scheme, &signed.last().expect("the signature comes last").0);
            others.push(CONTENT_TYPE);
            let mut headers = header_map(&signed);
            let before = request.verify(scheme, &[&keys.verifies], &headers, &body);
            let before = before.map_err(|refusal| TestCaseError::fail(format!("{scheme}: {refusal}")))?;
            let name = &others[at.index(others.len())];
            headers.insert(name, value.clone());
            let Ok(after) = request.verify(scheme, &[&keys.verifies], &headers, &body) else { continue };
            let made = before.id().origin() == IdOrigin::Made && after.id().origin() == IdOrigin::Made;
            for (attribute, changed) in [
                ("id", before.id() != after.id() && !made),
                ("type", before.event_type() != after.event_type()),
                ("subject", before.subject() != after.subject()),
                ("time", before.time() != after.time()),
                ("datacontenttype", before.content_type() != after.content_type()),
            ] {
                let listed = [&before, &after].iter().any(|event| event.unsigned_attributes().contains(&attribute));
                prop_assert!(!changed || listed, "{}: {} = {:?} changed the {}", scheme, name, value, attribute);
            }
        }
    }
}

/// Anything a header can hold: bytes, or pieces that signature headers are made of.
fn garbage() -> impl Strategy<Value = HeaderValue> {
    let pieces = [
        "v1",
        "v1a",
        "v0",
        "t",
        "ts",
        "time",
        "sig1",
        "h1",
        "sha256",
        "sha1",
        "=",
        "=",
        ",",
        ",",
        ";",
        " ",
        "1",
        "\t",
        "1768219881",
        "1768219881999",
        "2026-01-12T12:12:28Z",
        "HmacSHA256",
    ];
    let zeros = [20, 32, 64].into_iter().flat_map(|len| [hex(&vec![0; len]), STANDARD.encode(vec![0; len])]);
    let pieces: Vec<String> = pieces.into_iter().map(str::to_owned).chain(zeros).collect();
    let pieces = prop::collection::vec(prop::sample::select(pieces), 0..8)
        .prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![prop::collection::vec(any::<u8>(), 0..100), pieces]
        .prop_filter_map("a header takes it", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

/// What an attribute might be read from.
fn plausible() -> impl Strategy<Value = HeaderValue> {
    let values = ["1768219881", "1768219881999", "2026-01-12T12:12:28.5+01:00", "another", "text/plain"];
    prop::sample::select(values.map(HeaderValue::from_static).to_vec())
}

#[test]
fn every_flipped_bit_of_one_signature_refuses() {
    let request = Request {
        now: UNIX_EPOCH + Duration::from_millis(1_768_219_881_250),
        method: Method::POST,
        query: Some("a=b".into()),
        id: "evt-1".into(),
        event_type: "video.media.ready".into(),
        body: br#"{"id":"1","type":"video.media.ready"}"#.to_vec(),
    };
    for scheme in schemes() {
        let keys = keys(scheme, [7; 32]);
        let signed = request.sign(scheme, &keys.signs);
        let (name, value) = signed.last().expect("the signature comes last");
        let mut tried = 0;
        for flip in 0..value.len() * 8 {
            let mut changed = value.as_bytes().to_vec();
            changed[flip / 8] ^= 1 << (flip % 8);
            let Ok(changed) = HeaderValue::from_bytes(&changed) else { continue };
            let mut headers = header_map(&signed);
            headers.insert(name, changed.clone());
            let verdict = request.verify(scheme, &[&keys.verifies], &headers, &request.body(scheme));
            assert!(verdict.is_err(), "{scheme} took {changed:?} for {value:?}");
            tried += 1;
        }
        assert!(tried > value.len() * 5, "{scheme}: most flips are values a header can hold");
    }
}
