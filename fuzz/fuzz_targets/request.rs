//! Headers and bodies nobody signed, against every built-in scheme: no panic, and never an event.
//!
//! Input: a byte that chooses the scheme, lines `NAME: VALUE` up to an empty one, the body. A name that is a number
//! stands for one of the headers the scheme reads.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hookbus::core::{
    RequestHead, Scheme, Secret, Verifier,
    verify::{Algorithm, Examined},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let names: Vec<_> = Scheme::built_in_names().collect();
    let name = names[usize::from(*choice) % names.len()];
    let scheme = Scheme::built_in(name).expect("it is in the list");
    let read: Vec<HeaderName> = scheme.proof_headers();
    let mut headers = HeaderMap::new();
    let mut body = rest;
    while let Some(end) = body.iter().position(|byte| *byte == b'\n') {
        let (line, behind) = (&body[..end], &body[end + 1..]);
        body = behind;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let (header, value) = (&line[..colon], &line[colon + 1..]);
        let header = match header {
            [digit @ b'0'..=b'9'] if !read.is_empty() => Some(read[usize::from(digit - b'0') % read.len()].clone()),
            _ => HeaderName::from_bytes(header).ok(),
        };
        if let (Some(header), Ok(value)) = (header, HeaderValue::from_bytes(value)) {
            headers.append(header, value);
        }
    }
    // Keys that no input can know; the equality scheme is left to be guessed at.
    let secrets = ["aG9va2J1cyBmdXp6IHNlY3JldCBvZiAzMiBieXRlcyE=", "9d315659102c8af8aca75a6f90d4f8cf3b4b900106b2c17b7c76cac5b4974e35"];
    let secrets = secrets.map(Secret::new);
    let (verifier, _) = Verifier::new(name, scheme, Some("https://hooks.example.test/x".into()), &secrets);
    let request = RequestHead { method: &Method::POST, query: Some("a=b"), headers: &headers };
    if let Ok(Examined::Claim(claim)) = verifier.examine(request) {
        let now = UNIX_EPOCH + Duration::from_secs(1_768_000_000);
        let verified = claim.verify(Bytes::copy_from_slice(body), now);
        assert!(verified.is_err() || verifier.scheme().algorithm() == Algorithm::Equality, "{name}");
    }
});
