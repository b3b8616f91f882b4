//! Runs the recorded signature cases of every declarative scheme, byte for byte as they came over the wire.

#![allow(clippy::unwrap_used, reason = "a broken vector file fails the test")]

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hookbus_core::{
    Refusal, RequestHead, Scheme, Secret, Verifier,
    verify::{Examined, UnsignedProbe},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;

/// At most so many cases may be settled by `also_acceptable`, and they are these.
const ALSO_ACCEPTED: [&str; 5] = [
    // Upper-case hex is no canonical text form: refused as `bad_encoding` before any key is used.
    "fastgen/upper-case-hex",
    "gitea/upper-case-hex",
    "github/upper-case-hex",
    "linear/upper-case-hex",
    "mux/upper-case-hex",
];

#[derive(Deserialize)]
struct Case {
    name: String,
    provider: String,
    secrets: Vec<String>,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    body_base64: Option<String>,
    now: Option<u64>,
    expect: String,
    #[serde(default)]
    also_acceptable: Vec<String>,
}

impl Case {
    fn body(&self) -> Bytes {
        match (&self.body, &self.body_base64) {
            (Some(text), None) => Bytes::from(text.clone()),
            (None, Some(text)) => Bytes::from(STANDARD.decode(text).unwrap()),
            _ => panic!("{}: one body, please", self.name),
        }
    }

    fn run(&self) -> Result<(), Refusal> {
        let scheme = Scheme::built_in(&self.provider).unwrap();
        let secrets: Vec<_> = self.secrets.iter().map(|secret| Secret::new(secret.as_str())).collect();
        let (url, query) = match self.url.split_once('?') {
            Some((url, query)) => (url, Some(query)),
            None => (self.url.as_str(), None),
        };
        let (verifier, _) = Verifier::new(&self.provider, scheme, Some(url.to_owned()), &secrets);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let method: Method = self.method.parse().unwrap();
        let now = self.now.map_or_else(SystemTime::now, |now| UNIX_EPOCH + Duration::from_secs(now));
        let body = self.body();
        match verifier.examine(RequestHead { method: &method, query, headers: &headers })? {
            Examined::Claim(claim) => {
                let event = claim.verify(body.clone(), now)?;
                assert_eq!(event.body(), &body, "{}: the body is untouched", self.name);
                Ok(())
            }
            Examined::MaybeProbe(probe) => UnsignedProbe::check(probe, &body).map(drop),
            Examined::Handshake(_) => panic!("{}: nobody asked", self.name),
        }
    }
}

#[test]
fn every_recorded_case_has_its_exact_reason() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/signatures.json");
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let (mut ran, mut pending, mut failed) = (0, 0, Vec::new());
    let (mut also, mut providers) = (BTreeSet::new(), BTreeSet::new());
    for case in &cases {
        if Scheme::built_in(&case.provider).is_none() {
            assert!(
                ["twilio", "livekit", "adyen-standard"].contains(&case.provider.as_str()),
                "{}",
                case.provider
            );
            pending += 1;
            continue;
        }
        ran += 1;
        providers.insert(case.provider.as_str());
        let reason = case.run().map_or_else(Refusal::as_str, |()| "valid");
        if reason == case.expect {
            continue;
        }
        if case.also_acceptable.iter().any(|accepted| accepted == reason) && reason != "valid" {
            also.insert(case.name.as_str());
        } else {
            failed.push(format!("{}: expected {}, got {reason}", case.name, case.expect));
        }
    }
    // Written past the test runner, which would keep it to itself: the counts are part of the result.
    let counts = format!(
        "{ran} cases of {} schemes ran, {pending} of schemes that need code are pending\nsettled by also_acceptable: {also:?}\n",
        providers.len()
    );
    std::io::stdout().write_all(counts.as_bytes()).unwrap();
    assert!(failed.is_empty(), "{} of {ran} failed:\n{}", failed.len(), failed.join("\n"));
    assert_eq!((ran, pending, providers.len()), (220, 12, 37));
    assert_eq!(also, BTreeSet::from(ALSO_ACCEPTED));
}
