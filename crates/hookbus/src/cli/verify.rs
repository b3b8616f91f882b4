//! `hookbus verify`.

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use clap::Args;
use hookbus_core::{
    EventTime, Refusal, RequestHead, Scheme, Secret, SinkRegistry, VerifiedEvent, Verifier, nearest,
    verify::Examined,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;

use super::{
    FAILURE, Failure, Global, Outcome, diagnose::diagnose, failure, print, secrets::SecretArgs,
    send::built_in,
};
use crate::config::{Config, ConfigText};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  hookbus verify --source fastpix --body body.json --header 'FastPix-Signature: 1Hi7...='\n  hookbus verify --provider stripe --secret-env STRIPE_SECRET --body body.json \\\n      --header 'Stripe-Signature: t=1768231285,v1=b993...' --at 1768231290\n\nExit code 0: authentic; 1: not."
)]
pub(super) struct Verify {
    /// The source in the configuration: its scheme and secrets are used
    #[arg(long, conflicts_with = "provider", required_unless_present = "provider")]
    source: Option<String>,
    /// A built-in provider, without a configuration
    #[arg(long)]
    provider: Option<String>,
    /// The body exactly as it was received
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
    /// A header of the request, `Name: value`; repeat it for each
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Headers of the request in a file, one a line; for those that are secret themselves
    #[arg(long, value_name = "FILE")]
    headers_file: Option<PathBuf>,
    /// The method, where it is signed
    #[arg(long, default_value = "POST")]
    method: Method,
    /// The URL the provider called, where it is signed
    #[arg(long)]
    url: Option<String>,
    /// When it was received, in seconds since 1970; now if left out
    #[arg(long, value_name = "SECONDS")]
    at: Option<u64>,
    #[command(flatten)]
    secret: SecretArgs,
}

/// A captured request.
pub(super) struct Captured {
    pub(super) scheme: Arc<Scheme>,
    pub(super) secrets: Vec<Secret>,
    pub(super) url: Option<String>,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) at: SystemTime,
}

impl Captured {
    /// Verifies this body with these secrets.
    pub(super) fn verify(
        &self,
        scheme: Arc<Scheme>,
        secrets: &[Secret],
        body: &[u8],
    ) -> Result<VerifiedEvent, Refusal> {
        let (url, query) = match self.url.as_deref().map(|url| url.split_once('?').unwrap_or((url, ""))) {
            Some((url, "")) => (Some(url.to_owned()), None),
            Some((url, query)) => (Some(url.to_owned()), Some(query)),
            None => (None, None),
        };
        let (verifier, _) = Verifier::new("captured", scheme, url, secrets);
        match verifier.examine(RequestHead { method: &self.method, query, headers: &self.headers })? {
            Examined::Claim(claim) => claim.verify(Bytes::copy_from_slice(body), self.at),
            Examined::MaybeProbe(_) | Examined::Handshake(_) => Err(Refusal::MissingHeader),
        }
    }
}

impl Verify {
    pub(super) fn run(&self, global: &Global, registry: &SinkRegistry) -> Outcome {
        let captured = self.captured(global, registry)?;
        let body = fs::read(&self.body)
            .or_else(|error| failure(format!("cannot read {}: {error}", self.body.display())))?;
        match captured.verify(Arc::clone(&captured.scheme), &captured.secrets, &body) {
            Ok(event) => {
                let (id, event_type, subject) = (event.id().as_str(), event.event_type(), event.subject());
                print(&if global.json {
                    let time = event.time().map(|time: EventTime| time.to_string());
                    json!({ "authentic": true, "id": id, "type": event_type, "subject": subject, "time": time }).to_string()
                } else {
                    let subject = subject.map(|subject| format!("\nsubject  {subject}")).unwrap_or_default();
                    format!("authentic\nid       {id}\ntype     {event_type}{subject}")
                })?;
                Ok(ExitCode::SUCCESS)
            }
            Err(refusal) => {
                let findings = diagnose(&captured, refusal, &body);
                print(&if global.json {
                    json!({ "authentic": false, "reason": refusal.as_str(), "detail": refusal.explain(), "findings": findings })
                        .to_string()
                } else {
                    let findings: String = findings.iter().map(|finding| format!("\n- {finding}")).collect();
                    format!("not authentic: {}\n{refusal}{findings}", refusal.as_str())
                })?;
                Ok(ExitCode::from(FAILURE))
            }
        }
    }

    fn captured(&self, global: &Global, registry: &SinkRegistry) -> Result<Captured, Failure> {
        let named = self.secret.read()?;
        let (scheme, secrets, url) = match (&self.provider, &self.source) {
            (Some(provider), _) => {
                let Some(secret) = named else {
                    return failure(
                        "a secret is needed: --secret-env NAME, --secret-file FILE or --secret-stdin",
                    );
                };
                (built_in(provider)?, vec![secret], None)
            }
            (None, source) => {
                let name = source.as_deref().unwrap_or_default();
                let (config, _) = Config::parse(&ConfigText::read(&global.config)?, registry)?;
                let Some(source) = config.sources.iter().find(|source| *source.name == *name) else {
                    let near = nearest(name, config.sources.iter().map(|source| &*source.name));
                    let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                    return failure(format!("{} has no source `{name}`{hint}", global.config.display()));
                };
                let secrets = match named {
                    Some(secret) => vec![secret],
                    None => source
                        .secrets
                        .iter()
                        .map(|secret| secret.resolve(&config.base))
                        .collect::<Result<_, _>>()?,
                };
                (Arc::clone(&source.scheme), secrets, source.public_url.clone())
            }
        };
        let at = match self.at {
            None => SystemTime::now(),
            Some(at) => match SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at)) {
                Some(at) => at,
                None => return failure("--at lies beyond all time"),
            },
        };
        let from_file = match &self.headers_file {
            Some(path) => fs::read_to_string(path)
                .or_else(|error| failure(format!("cannot read {}: {error}", path.display())))?,
            None => String::new(),
        };
        let lines = from_file.lines().filter(|line| !line.trim().is_empty());
        let headers = self
            .headers
            .iter()
            .map(String::as_str)
            .chain(lines)
            .map(read_header)
            .collect::<Result<Vec<_>, _>>()?;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        Ok(Captured {
            scheme,
            secrets,
            url: self.url.clone().or(url),
            method: self.method.clone(),
            headers: map,
            at,
        })
    }
}

fn read_header(text: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let parsed = text
        .split_once(':')
        .and_then(|(name, value)| Some((name.trim().parse().ok()?, value.trim().parse().ok()?)));
    // The value may be a secret; only a name is shown, where there is one.
    let name = text.split_once(':').map(|(name, _)| format!(" `{name}`")).unwrap_or_default();
    parsed.map_or_else(|| failure(format!("--header{name}: write 'Name: value'")), Ok)
}
