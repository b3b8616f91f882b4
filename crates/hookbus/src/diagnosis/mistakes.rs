//! The usual mistakes, tried one by one.

use std::sync::Arc;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use hookbus_core::{Refusal, Scheme, Secret};
use http::HeaderMap;
use serde_json::Value;

use super::Captured;

/// What would have made the request authentic, in sentences.
pub(crate) fn diagnose(captured: &Captured, refusal: Refusal, body: &[u8]) -> Vec<String> {
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
            findings.extend(other_providers(captured).map(|provider| {
                format!("it has a signature as `{provider}` makes them: is it sent to the right source?")
            }));
        }
        Refusal::InvalidSecret => {
            findings.push("the secret is not in the form this provider displays it".to_owned());
        }
        Refusal::TimestampTooOld | Refusal::TimestampInFuture => {
            findings.push("the signature itself is right; --at gives the time of receipt".to_owned());
        }
        Refusal::BadEncoding => {
            findings.extend(in_another_form(captured, body));
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

/// Providers whose signature header is there, and is none of this scheme.
fn other_providers(captured: &Captured) -> impl Iterator<Item = &'static str> {
    let mine = captured.scheme.proof_headers();
    Scheme::built_in_names().filter(move |name| {
        // A scheme's own signature header is the first of what it reads.
        let first = Scheme::built_in(name).filter(|scheme| !scheme.is_bearer());
        let first = first.and_then(|scheme| scheme.proof_headers().into_iter().next());
        first.is_some_and(|first| captured.headers.contains_key(&first) && !mine.contains(&first))
    })
}

/// The same text in another form; nothing where it has none.
type Rewrite = fn(&str) -> Option<String>;

/// The same signature written otherwise, where that would have been authentic.
fn in_another_form(captured: &Captured, body: &[u8]) -> Option<String> {
    let forms: [(Rewrite, &str); 4] = [
        (
            |text| Some(text.to_ascii_lowercase()),
            "it is authentic in lower case: the signature is hex in upper case",
        ),
        (
            |text| {
                URL_SAFE
                    .decode(text)
                    .or_else(|_| URL_SAFE_NO_PAD.decode(text))
                    .ok()
                    .map(|it| STANDARD.encode(it))
            },
            "it is authentic in the standard alphabet: the signature is base64 of the URL alphabet, or not padded",
        ),
        (
            |text| from_hex(text).map(|it| STANDARD.encode(it)),
            "it is authentic in base64: the signature is hex",
        ),
        (
            |text| STANDARD.decode(text).ok().map(|it| it.iter().map(|byte| format!("{byte:02x}")).collect()),
            "it is authentic in hex: the signature is base64",
        ),
    ];
    forms.into_iter().find_map(|(form, finding)| {
        let headers = rewritten(captured, form)?;
        let captured = Captured { headers, secrets: captured.secrets.clone(), ..captured.clone() };
        is_authentic(&captured, &captured.secrets, body).then(|| finding.to_owned())
    })
}

/// The headers with each text that the scheme reads in another form, where it has one.
fn rewritten(captured: &Captured, form: impl Fn(&str) -> Option<String>) -> Option<HeaderMap> {
    let mut headers = captured.headers.clone();
    for name in captured.scheme.proof_headers() {
        let Some(text) = headers.get(&name).and_then(|value| value.to_str().ok()) else { continue };
        // Behind a prefix such as `sha256=`; the padding of base64 is none.
        let (prefix, signature) = match text.split_once('=') {
            Some((prefix, rest)) if !rest.trim_matches('=').is_empty() => (format!("{prefix}="), rest),
            _ => (String::new(), text),
        };
        let Some(signature) = form(signature) else { continue };
        headers.insert(name, format!("{prefix}{signature}").parse().ok()?);
    }
    (headers != captured.headers).then_some(headers)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()).collect()
}
