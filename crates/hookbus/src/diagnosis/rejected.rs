//! Why a request that is kept was refused: what is known of its reason, and what the usual mistakes say.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use hookbus_core::{Refusal, Secret};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Captured, diagnose};
use crate::{
    config::SourceConfig,
    rejected::{Found, KeptBody, Known, Value},
};

/// What can be said of a request, in sentences. None of them shows a secret, or what would have been right.
pub(crate) fn explain(known: &Known, found: &Found) -> Vec<String> {
    let record = &found.record;
    let Some(refusal) = Refusal::ALL.into_iter().find(|refusal| refusal.as_str() == record.reason) else {
        return Vec::new();
    };
    let Some(source) = known.sources.iter().find(|source| source.name == found.source) else {
        return vec!["its source is not configured any more, so its signature cannot be looked at".into()];
    };
    if refusal == Refusal::SignatureMismatch && source.scheme.is_bearer() {
        return vec!["the token that was sent is none of those configured; tokens are not kept".into()];
    }
    let (secrets, mut findings) = secrets(known, source);
    let Some(captured) = captured(source, secrets, found) else { return findings };
    let needs_body =
        matches!(refusal, Refusal::SignatureMismatch | Refusal::TimestampTooOld | Refusal::TimestampInFuture);
    match record.body {
        KeptBody::Cut { .. } | KeptBody::Left { .. } if needs_body => {
            findings.push("its body is not kept whole, so its signature cannot be looked at".into());
            return findings;
        }
        // Refused by its head: what the body says does not matter.
        _ if !needs_body => findings.extend(diagnose(&captured, refusal, &found.body)),
        _ => match captured.verify(Arc::clone(&captured.scheme), &captured.secrets, &found.body) {
            Ok(_) => findings.push(
                "it is authentic with the secrets that are configured now: one of them was not in use then"
                    .into(),
            ),
            Err(now) => {
                let elsewhere =
                    (now == Refusal::SignatureMismatch).then(|| elsewhere(known, &captured, found));
                match elsewhere.flatten() {
                    Some(finding) => findings.push(finding),
                    None => findings.extend(diagnose(&captured, now, &found.body)),
                }
            }
        },
    }
    findings
}

fn captured(source: &SourceConfig, secrets: Vec<Secret>, found: &Found) -> Option<Captured> {
    let record = &found.record;
    let mut headers = HeaderMap::new();
    for (name, value) in &record.headers {
        if let Value::Shown(value) = value {
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
    }
    let query = record.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    Some(Captured {
        scheme: Arc::clone(&source.scheme),
        secrets,
        url: source.public_url.as_ref().map(|url| format!("{url}{query}")),
        method: Method::from_bytes(record.method.as_bytes()).ok()?,
        headers,
        at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(record.at))?,
    })
}

/// The secrets of a source as they are now, and what is wrong with the others.
fn secrets(known: &Known, source: &SourceConfig) -> (Vec<Secret>, Vec<String>) {
    let (mut secrets, mut findings) = (Vec::new(), Vec::new());
    for secret in &source.secrets {
        match secret.resolve(&known.base) {
            Ok(secret) => secrets.push(secret),
            Err(error) => findings.push(format!("a secret cannot be read here: {error}")),
        }
    }
    (secrets, findings)
}

/// Whether it was meant for another source of the same scheme.
fn elsewhere(known: &Known, captured: &Captured, found: &Found) -> Option<String> {
    let others = known
        .sources
        .iter()
        .filter(|other| other.name != found.source && Arc::ptr_eq(&other.scheme, &captured.scheme));
    others.into_iter().find_map(|other| {
        let (secrets, _) = secrets(known, other);
        let verified = captured.verify(Arc::clone(&captured.scheme), &secrets, &found.body);
        let authentic =
            matches!(verified, Ok(_) | Err(Refusal::TimestampTooOld | Refusal::TimestampInFuture));
        authentic.then(|| format!("it was signed with the secret of source `{}`", other.name))
    })
}
