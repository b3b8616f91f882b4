//! `hookbus send`.

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc, time::SystemTime};

use bytes::Bytes;
use clap::Args;
use hookbus_core::{
    Scheme, Secret, SinkRegistry, nearest,
    verify::{Algorithm, ToSign},
};
use http::{HeaderMap, HeaderValue, Method, Uri, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::{
    FAILURE, Failure, Global, Outcome, client,
    client::Answered,
    failure, note, print, runtime,
    samples::{Sample, sample},
    secrets::SecretArgs,
};
use crate::config::{Config, ConfigText};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  hookbus send fastpix                                   a sample event, with the secret of the configuration\n  hookbus send fastpix --event video.media.failed\n  hookbus send fastgen --file body.json\n  hookbus send --provider stripe --secret-env STRIPE_SECRET --to http://127.0.0.1:8080/hooks/stripe\n\nExit code 0: answered 2xx; 1: anything else."
)]
pub(super) struct Send {
    /// The source in the configuration: its scheme, secret and address are used
    #[arg(required_unless_present = "provider", conflicts_with = "provider")]
    source: Option<String>,
    /// Sign like this built-in provider, without a configuration
    #[arg(long, requires = "to")]
    provider: Option<String>,
    /// The type of the sample event
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,
    /// Send this body, byte for byte, instead of a sample
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send it there instead of the configuration's address
    #[arg(long, value_name = "URL")]
    to: Option<Uri>,
    #[command(flatten)]
    secret: SecretArgs,
}

/// Who is to be imitated, and where to.
struct Sender {
    provider: Option<String>,
    scheme: Arc<Scheme>,
    secret: Secret,
    to: Uri,
    signed_url: String,
}

impl Send {
    pub(super) fn run(&self, global: &Global, registry: &SinkRegistry) -> Outcome {
        let sender = match &self.provider {
            Some(provider) => self.stranger(provider)?,
            None => self.configured(global, registry)?,
        };
        let now = SystemTime::now();
        let Sample { event_type, body } = self.body(sender.provider.as_deref().unwrap_or_default(), now)?;
        let id = uuid::Uuid::now_v7().to_string();
        let headers = sign(&sender.scheme, &sender.secret, &sender.signed_url, &id, &event_type, now, &body)?;
        let answered = runtime()?.block_on(client::post(&sender.to, headers, Bytes::from(body)))?;
        show(global, &event_type, &answered)
    }

    fn configured(&self, global: &Global, registry: &SinkRegistry) -> Result<Sender, Failure> {
        let (config, _) = Config::parse(&ConfigText::read(&global.config)?, registry)?;
        let name = self.source.as_deref().unwrap_or_default();
        let Some(source) = config.sources.iter().find(|source| *source.name == *name) else {
            let names = || config.sources.iter().map(|source| &*source.name);
            let hint =
                nearest(name, names()).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let all = names().collect::<Vec<_>>().join(", ");
            return failure(format!(
                "{} has no source `{name}`{hint}; it has {all}",
                global.config.display()
            ));
        };
        let secret = match self.secret.read()? {
            Some(secret) => secret,
            None if matches!(source.scheme.algorithm(), Algorithm::Ed25519 | Algorithm::EcdsaP256Sha256) => {
                return failure(format!(
                    "source `{name}` has the public key only; give the private one with --secret-file"
                ));
            }
            None => match source.secrets.first() {
                Some(secret) => secret.resolve(&config.base)?,
                None => return failure(format!("source `{name}` has no secret to sign with yet")),
            },
        };
        let to = match &self.to {
            Some(to) => to.clone(),
            None => format!("http://{}/hooks/{name}", reachable(config.server.listen)).parse()?,
        };
        let provider = Scheme::built_in_names().find(|provider| {
            Scheme::built_in(provider).is_some_and(|scheme| Arc::ptr_eq(&scheme, &source.scheme))
        });
        let signed_url = source.public_url.clone().unwrap_or_else(|| to.to_string());
        let provider = provider.map(str::to_owned);
        Ok(Sender { provider, scheme: Arc::clone(&source.scheme), secret, to, signed_url })
    }

    fn stranger(&self, provider: &str) -> Result<Sender, Failure> {
        let scheme = built_in(provider)?;
        let Some(secret) = self.secret.read()? else {
            return failure("a secret is needed: --secret-env NAME, --secret-file FILE or --secret-stdin");
        };
        // Invariant: the command line requires `--to` with `--provider`.
        let to = self.to.clone().unwrap_or_default();
        let signed_url = to.to_string();
        Ok(Sender { provider: Some(provider.to_owned()), scheme, secret, to, signed_url })
    }

    fn body(&self, provider: &str, now: SystemTime) -> Result<Sample, Failure> {
        let Some(path) = &self.file else {
            let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
            return sample(provider, self.event.as_deref(), now);
        };
        let body =
            fs::read(path).or_else(|error| failure(format!("cannot read {}: {error}", path.display())))?;
        Ok(Sample { event_type: self.event.clone().unwrap_or_else(|| "example.event".into()), body })
    }
}

/// The built-in scheme of a provider, or an error that names the nearest.
pub(super) fn built_in(provider: &str) -> Result<Arc<Scheme>, Failure> {
    match Scheme::built_in(provider) {
        Some(scheme) => Ok(scheme),
        None => {
            let hint = nearest(provider, Scheme::built_in_names());
            let hint = hint.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let all = Scheme::built_in_names().collect::<Vec<_>>().join(", ");
            failure(format!("there is no provider `{provider}`{hint}; there are {all}"))
        }
    }
}

/// The headers of a genuine request.
pub(super) fn sign(
    scheme: &Scheme,
    secret: &Secret,
    url: &str,
    id: &str,
    event_type: &str,
    now: SystemTime,
    body: &[u8],
) -> Result<HeaderMap, Failure> {
    let signed = scheme.sign(ToSign { secret, method: &Method::POST, url, id, event_type, now, body })?;
    let mut headers: HeaderMap = signed.into_iter().collect();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(headers)
}

/// An address a client can connect to: `0.0.0.0` is none.
fn reachable(listen: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn show(global: &Global, event_type: &str, answered: &Answered) -> Outcome {
    let Answered { status, headers, body } = answered;
    let retry_after = headers.get("retry-after").and_then(|value| value.to_str().ok());
    if global.json {
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| body.as_str().into());
        print(&json!({ "type": event_type, "status": status.as_u16(), "retry-after": retry_after, "body": body }).to_string())?;
    } else {
        note(format_args!("sent {event_type}"));
        let retry_after = retry_after.map(|after| format!(" (retry after {after} s)")).unwrap_or_default();
        print(&format!("{status}{retry_after}\n{body}"))?;
        if body.contains("\"status\":\"ignored\"") {
            note("no route takes this event: it was answered and nothing was published");
        }
    }
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}
