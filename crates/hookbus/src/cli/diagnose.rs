//! Why a captured request does not verify: the usual mistakes, tried one by one. Only for the command line, where
//! the secret is the user's own; never for an answer over HTTP.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hookbus_core::{Refusal, Secret};
use serde_json::Value;

use super::verify::Captured;

/// What would have made the request authentic, in sentences.
pub(super) fn diagnose(captured: &Captured, refusal: Refusal, body: &[u8]) -> Vec<String> {
    let mut findings = Vec::new();
    match refusal {
        Refusal::SignatureMismatch => {
            for (variant, finding) in bodies(body) {
                if is_authentic(captured, &captured.secrets, &variant) {
                    findings.push(finding.to_owned());
                }
            }
            for (secrets, finding) in secrets(&captured.secrets) {
                if is_authentic(captured, &secrets, body) {
                    findings.push(finding.to_owned());
                }
            }
            if findings.is_empty() {
                findings.push("no usual mistake explains it: another secret, or another body".to_owned());
            }
        }
        Refusal::MissingHeader => {
            let needed: Vec<_> = captured.scheme.proof_headers().iter().map(ToString::to_string).collect();
            findings.push(format!("this scheme reads {}", needed.join(", ")));
        }
        Refusal::InvalidSecret => {
            findings.push("the secret is not in the form this provider displays it".to_owned());
        }
        Refusal::TimestampTooOld | Refusal::TimestampInFuture => {
            findings.push("the signature itself is right; --at gives the time of receipt".to_owned());
        }
        Refusal::BadEncoding => {
            findings.push(
                "hex signatures are lower case, base64 ones padded and of the standard alphabet".to_owned(),
            );
        }
        _ => {}
    }
    findings
}

/// Authentic, whatever the time.
fn is_authentic(captured: &Captured, secrets: &[Secret], body: &[u8]) -> bool {
    let verified = captured.verify(Arc::clone(&captured.scheme), secrets, body);
    matches!(verified, Ok(_) | Err(Refusal::TimestampTooOld | Refusal::TimestampInFuture))
}

/// Bodies as they often get altered between receipt and capture.
fn bodies(body: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let mut variants = vec![
        ([body, b"\n"].concat(), "it is authentic with a newline behind the body: the capture lost it"),
        ([body, b"\r\n"].concat(), "it is authentic with CRLF behind the body: the capture lost it"),
        (
            body.trim_ascii_end().to_vec(),
            "it is authentic without the white space at the end: the capture added it",
        ),
    ];
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let again =
            "it is authentic in another layout of the same JSON: the body was parsed and written again";
        variants.extend(
            [serde_json::to_vec(&json), serde_json::to_vec_pretty(&json)]
                .into_iter()
                .flatten()
                .map(|body| (body, again)),
        );
    }
    variants.retain(|(variant, _)| variant != body);
    variants
}

/// Secrets as they often get mistaken. Each is turned into what the scheme's own decoding makes that key of.
fn secrets(secrets: &[Secret]) -> Vec<(Vec<Secret>, &'static str)> {
    let map = |change: &dyn Fn(&[u8]) -> Option<Vec<u8>>| -> Vec<Secret> {
        secrets.iter().filter_map(|secret| change(secret.expose())).map(Secret::new).collect()
    };
    vec![
        (
            map(&|text| Some(STANDARD.encode(text).into_bytes())),
            "it was signed with the secret's text instead of its base64-decoded bytes",
        ),
        (
            map(&|text| STANDARD.decode(text).ok()),
            "it was signed with the base64-decoded secret instead of its text",
        ),
        (map(&|text| Some([text, b"\n"].concat())), "it was signed with a newline behind the secret"),
        (
            map(&|text| Some(text.trim_ascii().to_vec()).filter(|trimmed| trimmed != text)),
            "the secret given has white space around it",
        ),
    ]
}
