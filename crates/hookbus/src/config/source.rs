//! `[sources.NAME]`: who may send, and how that is proved.

use std::{path::Path, sync::Arc};

use hookbus_core::{
    Scheme, SecretRef, Verifier,
    config::{self, Problem, Table, quoted},
    nearest,
    secret::SecretError,
    units::Duration,
};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{
    RateLimit,
    future::{self, Place},
};

/// Providers whose rules are known but need code of their own.
const NEED_CODE: [&str; 4] = ["twilio", "livekit", "adyen-standard", "microsoft-graph"];

/// Secrets with fewer bytes than this can be guessed, given enough tries.
const SHORT: usize = 16;

/// A source as configured.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Its name: the last part of its path, `/hooks/NAME`.
    pub name: Arc<str>,
    /// How its requests are proved.
    pub scheme: Arc<Scheme>,
    /// Where its secrets are. Empty while the provider has not shown one yet.
    pub secrets: Vec<SecretRef>,
    /// The URL the provider calls, for schemes that sign it.
    pub public_url: Option<String>,
    /// Where the token is that the provider's handshakes have to have.
    pub verify_token: Option<SecretRef>,
    /// When a request is answered.
    pub ack: Ack,
    /// How long a request waits for that.
    pub ack_timeout: Duration,
    /// What keeps its order.
    pub order: Order,
    /// How many authentic requests it may send.
    pub rate_limit: Option<RateLimit>,
}

/// Which events of a source stay in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Events about the same subject; those without one are in no order.
    #[default]
    Subject,
    /// All events of the source.
    Source,
}

/// When a request is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// When the journal is fsynced.
    #[default]
    Journal,
    /// When every matched sink has confirmed.
    Sinks,
}

/// A `[sources.NAME]` table.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "source")]
pub(super) struct SourceTable {
    /// A built-in scheme, such as `fastpix`.
    #[schemars(with = "Option<String>")]
    provider: Option<Spanned<String>>,
    /// A scheme of your own, instead of `provider`.
    scheme: Option<Scheme>,
    /// The signing secrets: any of them may match. Empty while the provider has not shown one yet. Must be given.
    #[serde(default)]
    secrets: Vec<SecretRef>,
    /// The URL the provider calls, for schemes that sign it.
    #[schemars(with = "Option<String>")]
    public_url: Option<Spanned<String>>,
    /// The token that the provider was told to send when it tests the URL; for providers that do, such as `meta`.
    verify_token: Option<SecretRef>,
    /// When a request is answered: once the journal has the event, or once all its sinks have it. Default: `journal`.
    #[serde(default)]
    ack: Ack,
    /// How long a request waits for that before 503, up to 30s. Default: `2s`.
    #[schemars(with = "Option<Duration>")]
    ack_timeout: Option<Spanned<Duration>>,
    /// Which events stay in order. Default: `subject`.
    #[serde(default)]
    order: Order,
    /// How many authentic requests are taken in a length of time; beyond that 429. Default: no limit.
    rate_limit: Option<RateLimit>,
}

impl SourceConfig {
    pub(super) fn read(name: &str, mut table: Table<'_>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        future::refuse(Place::Source, &mut table, &mut problems);
        let (read, wrong) = config::read_leniently::<SourceTable>(&table);
        problems.extend(wrong);
        let Some(read) = read else { return Err(problems) };
        let misspelt =
            problems.iter().any(|problem| problem.help.as_deref() == Some("did you mean `secrets`?"));
        if !table.has("secrets") && !misspelt {
            let problem = Problem::new(table.span(), "the key `secrets` is missing here");
            problems.push(
                problem.help("secrets = [{ env = \"NAME\" }]; empty while the provider has not shown one"),
            );
        }
        if let Some(wait) = read.ack_timeout.as_ref().filter(|wait| *wait.get_ref() > Duration::from_secs(30))
        {
            let problem = Problem::new(wait.span(), "`ack-timeout` is more than 30s");
            problems
                .push(problem.help("providers wait for seconds; a longer wait only holds connections open"));
        }
        let scheme = scheme(read.provider.as_ref(), read.scheme, &table)
            .map_err(|problem| problems.extend(problem))
            .ok();
        if let Some(url) = &read.public_url
            && !(url.get_ref().starts_with("https://") || url.get_ref().starts_with("http://"))
        {
            problems.push(Problem::new(url.span(), "`public-url` must begin with https:// or http://"));
        }
        if let Some(url) = read.public_url.as_ref().filter(|url| url.get_ref().contains(['?', '#'])) {
            let problem = Problem::new(url.span(), "`public-url` has no query: each request brings its own");
            problems.push(problem);
        }
        if scheme.as_ref().is_some_and(|scheme| scheme.signs_url()) && !table.has("public-url") {
            let problem =
                table.problem_at("provider", "this scheme signs the URL, so `public-url` is needed");
            problems.push(problem.help(format!("public-url = \"https://hooks.example.com/hooks/{name}\"")));
        }
        problems.extend(scheme.as_ref().and_then(|scheme| verify_token(scheme, &table)));
        match scheme {
            Some(scheme) if problems.is_empty() => Ok(Self {
                name: name.into(),
                scheme,
                secrets: read.secrets,
                public_url: read.public_url.map(Spanned::into_inner),
                verify_token: read.verify_token,
                ack: read.ack,
                ack_timeout: read.ack_timeout.map_or(Duration::from_secs(2), Spanned::into_inner),
                order: read.order,
                rate_limit: read.rate_limit,
            }),
            _ => Err(problems),
        }
    }

    /// Reads the secrets and makes their keys ready. Relative files start from `base`.
    ///
    /// # Errors
    /// Each secret that cannot be had or is no key, in words that show none of it.
    pub fn resolve(&self, base: &Path) -> Result<Verifier, Vec<String>> {
        let (secrets, missing): (Vec<_>, Vec<_>) =
            self.secrets.iter().map(|secret| secret.resolve(base)).partition(Result::is_ok);
        let at_source = |what: String| format!("source `{}`: {what}", self.name);
        let mut wrong: Vec<_> = missing
            .into_iter()
            .filter_map(Result::err)
            .map(|e: SecretError| at_source(e.to_string()))
            .collect();
        let secrets: Vec<_> = secrets.into_iter().flatten().collect();
        let (verifier, unusable) =
            Verifier::new(&self.name, Arc::clone(&self.scheme), self.public_url.clone(), &secrets);
        if wrong.is_empty() {
            let describe = |index: usize, why| {
                at_source(format!("the secret in {} is not usable: {why}", self.secrets[index]))
            };
            wrong.extend(unusable.into_iter().map(|unusable| describe(unusable.index, unusable.why)));
        }
        for (index, secret) in secrets.iter().enumerate().filter(|(_, secret)| secret.expose().len() < SHORT)
        {
            let (bytes, source, place) = (secret.expose().len(), &self.name, &self.secrets[index]);
            tracing::warn!(%source, %place, bytes, "this secret is short enough to be guessed");
        }
        let verifier = match self.verify_token.as_ref().map(|token| token.resolve(base)) {
            Some(Ok(token)) => verifier.with_verify_token(&token),
            Some(Err(error)) => {
                wrong.push(at_source(format!("the verify token: {error}")));
                verifier
            }
            None => verifier,
        };
        if wrong.is_empty() { Ok(verifier) } else { Err(wrong) }
    }
}

/// A verify token is there exactly where handshakes have one.
fn verify_token(scheme: &Scheme, table: &Table<'_>) -> Option<Problem> {
    match (scheme.needs_verify_token(), table.has("verify-token")) {
        (true, false) => {
            let provider = scheme.handshake().unwrap_or_default();
            let message = format!("`{provider}` tests the URL with a token, so `verify-token` is needed");
            let help =
                "verify-token = { env = \"NAME\" }: the token that the provider is given beside the URL";
            Some(table.problem_at("provider", message).help(help))
        }
        (false, true) => {
            let message = "`verify-token` is given, but this provider does not test the URL with one";
            Some(table.problem_at("verify-token", message).help("leave it out"))
        }
        _ => None,
    }
}

fn scheme(
    provider: Option<&Spanned<String>>,
    scheme: Option<Scheme>,
    table: &Table<'_>,
) -> Result<Arc<Scheme>, Option<Problem>> {
    let provider = match (provider, scheme) {
        (Some(_), Some(_)) => {
            return Err(Some(table.problem_at("scheme", "a source has `provider` or `scheme`, not both")));
        }
        (None, Some(scheme)) => return Ok(Arc::new(scheme)),
        // Given, but wrong: that was said already.
        (None, None) if table.has("provider") || table.has("scheme") => return Err(None),
        (None, None) => {
            let problem = Problem::new(table.span(), "a source needs `provider` or `scheme`");
            let help = "provider = \"fastpix\" for a built-in scheme, scheme = { .. } for your own";
            return Err(Some(problem.help(help)));
        }
        (Some(provider), None) => provider,
    };
    let name = provider.get_ref().as_str();
    if let Some(scheme) = Scheme::built_in(name) {
        return Ok(scheme);
    }
    if NEED_CODE.contains(&name) {
        let message = format!("provider `{name}` is not available in this version");
        return Err(Some(Problem::new(provider.span(), message)));
    }
    let help = match nearest(name, Scheme::built_in_names()) {
        Some(near) => format!("did you mean `{near}`? any other provider is written as `scheme = {{ .. }}`"),
        None => format!(
            "there are {}; any other is written as `scheme = {{ .. }}`",
            quoted(Scheme::built_in_names())
        ),
    };
    Err(Some(Problem::new(provider.span(), format!("there is no provider `{name}`")).help(help)))
}
