//! A provider's signature rules as data.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{
    handshake::Handshakes,
    locate::{Locator, Locators},
    template::{Part, SignedTemplate},
};
use crate::{Redaction, json::Pointer, units::Duration};

/// The text of `schemes.toml`: one table a provider.
const BUILT_IN: &str = include_str!("schemes.toml");

static SCHEMES: LazyLock<BTreeMap<String, Arc<Scheme>>> = LazyLock::new(|| {
    // Invariant: the file is part of the crate and read by a test.
    toml::from_str(BUILT_IN).expect("the built-in schemes are sound")
});

/// Which headers are signed how, and where an event's attributes stand.
///
/// Made from configuration (`scheme = { ... }`) or taken from the built-in ones.
#[derive(Clone, Debug)]
pub struct Scheme {
    pub(crate) knobs: Knobs,
}

/// The knobs of a scheme as written; [`Scheme`] holds them once they are known to fit together.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Scheme")]
pub(crate) struct Knobs {
    /// How the signature is made.
    pub(crate) alg: Algorithm,
    /// How the displayed secret becomes the key.
    #[serde(default)]
    pub(crate) key: KeyRule,
    /// Where the signature stands and in what form.
    pub(crate) sig: SignatureRule,
    /// Headers that must have exactly this value, such as a version.
    #[serde(default)]
    pub(crate) require: BTreeMap<String, String>,
    /// The signed bytes.
    pub(crate) signed: SignedTemplate,
    /// The timestamp that bounds replay.
    pub(crate) ts: Option<TimestampRule>,
    /// The event's id; without one it gets an id of ours.
    #[serde(default)]
    pub(crate) id: Locators,
    /// The event's type.
    #[serde(default, rename = "type")]
    pub(crate) event_type: Locators,
    /// What the event is about.
    #[serde(default)]
    pub(crate) subject: Locators,
    /// When it happened; without one the timestamp of the signature counts.
    pub(crate) time: Option<TimeRule>,
    /// JSON pointer to the array, where one body carries many events (the empty pointer: the body itself).
    pub(crate) many: Option<String>,
    /// The provider whose tests of the URL are answered, and never published.
    pub(crate) handshake: Option<Handshakes>,
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-1; for providers that offer nothing better.
    HmacSha1,
    /// HMAC with SHA-512.
    HmacSha512,
    /// Ed25519 (RFC 8032); the secret is the public key.
    Ed25519,
    /// ECDSA on P-256 with SHA-256, signature in DER; the secret is the public key in SubjectPublicKeyInfo.
    EcdsaP256Sha256,
    /// The header is the secret itself: proves nothing about the body.
    Equality,
}

/// How the displayed secret becomes a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct KeyRule {
    /// A prefix to take off first, such as `whsec_`.
    pub(crate) strip: Option<String>,
    /// What the rest is.
    pub(crate) decode: KeyText,
}

/// The text form of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyText {
    /// The text itself is the key.
    #[default]
    Utf8,
    /// Standard base64, padded and canonical.
    Base64,
    /// Hexadecimal digits of either case.
    Hex,
}

/// Where the signature stands.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SignatureRule {
    /// The headers that may carry one.
    pub(crate) headers: Vec<Header>,
    /// Whether the first secret counts for the first header only, the second for the second.
    #[serde(default)]
    pub(crate) pairwise: bool,
    /// What separates several items in one header.
    pub(crate) item_sep: Option<Separator>,
    /// What separates an item's tag from its value, at the first occurrence.
    pub(crate) kv_sep: Option<Separator>,
    /// The tags of items that are signatures.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// The text form of the signature.
    pub(crate) encoding: Encoding,
}

/// The text form of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encoding {
    /// Lower-case hexadecimal digits.
    Hex,
    /// Hexadecimal digits of either case.
    HexAnyCase,
    /// Standard base64, padded and canonical.
    Base64,
    /// The bytes of the header; for `equality`.
    Raw,
}

/// The timestamp of the signature.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TimestampRule {
    /// Where it stands.
    pub(crate) from: Locator,
    /// What it counts.
    pub(crate) unit: TimeUnit,
    /// How old a request may be.
    pub(crate) past: Duration,
    /// How far ahead a request's clock may be.
    pub(crate) future: Duration,
}

/// Where the provider's own time of the event stands.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TimeRule {
    /// Where it stands.
    pub(crate) from: Locators,
    /// What it counts.
    pub(crate) unit: TimeUnit,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TimeUnit {
    /// Seconds since 1970.
    S,
    /// Milliseconds since 1970.
    Ms,
    /// RFC 3339.
    Rfc3339,
}

/// One separator character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Separator(pub(crate) char);

/// A header name in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header(pub(crate) HeaderName);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(input)?;
        let name =
            text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not a header name")))?;
        Ok(Self(name))
    }
}

impl JsonSchema for Header {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Header".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a header name in any case" })
    }
}

impl<'de> Deserialize<'de> for Scheme {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let scheme = Self { knobs: Knobs::deserialize(input)? };
        scheme.check().map_err(serde::de::Error::custom)?;
        Ok(scheme)
    }
}

impl JsonSchema for Scheme {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Knobs::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Knobs::json_schema(generator)
    }
}

impl Scheme {
    /// The built-in scheme of a provider, such as `fastpix`.
    pub fn built_in(provider: &str) -> Option<Arc<Self>> {
        SCHEMES.get(provider).cloned()
    }

    /// The names of all built-in schemes, sorted.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        SCHEMES.keys().map(String::as_str)
    }

    /// How signatures are made.
    pub fn algorithm(&self) -> Algorithm {
        self.knobs.alg
    }

    /// Whether the public URL is signed, so that the source needs to know it.
    pub fn signs_url(&self) -> bool {
        self.knobs.signed.has(&Part::Url)
    }

    /// Whether the header is the secret itself, so that it must not be forwarded, stored or shown.
    pub fn is_bearer(&self) -> bool {
        self.knobs.alg == Algorithm::Equality
    }

    /// The provider whose handshakes are answered.
    pub fn handshake(&self) -> Option<&'static str> {
        self.knobs.handshake.map(Handshakes::name)
    }

    /// Whether handshakes are answered only to those who know a token that was agreed on: see
    /// [`Verifier::with_verify_token`](super::Verifier::with_verify_token).
    pub fn needs_verify_token(&self) -> bool {
        self.knobs.handshake.is_some_and(Handshakes::needs_verify_token)
    }

    /// Whether a test of the URL is answered while there is no secret yet.
    pub fn answers_without_secret(&self) -> bool {
        self.knobs.handshake.is_some_and(Handshakes::answers_without_secret)
    }

    /// Whether handshakes come by GET; nothing else is taken by it.
    pub fn takes_get(&self) -> bool {
        self.knobs.handshake.is_some_and(Handshakes::takes_get)
    }

    /// Headers that carry the secret itself, in lower case: never to be shown, stored or forwarded.
    pub fn bearer_headers(&self) -> impl Iterator<Item = &str> {
        self.knobs.sig.headers.iter().filter(|_| self.is_bearer()).map(|header| header.0.as_str())
    }

    /// Headers a consumer needs to verify again, in lower case: all the scheme reads but the bearer ones.
    pub fn proof_headers(&self) -> Vec<HeaderName> {
        let signature =
            self.knobs.sig.headers.iter().map(|header| &header.0).filter(|_| !self.is_bearer()).cloned();
        let mut names = Vec::new();
        for name in signature.chain(self.read_headers()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The headers that something beside the signature is taken from.
    fn read_headers(&self) -> Vec<HeaderName> {
        let Knobs { require, ts, id, event_type, subject, time, .. } = &self.knobs;
        // Invariant: `check` refuses names that are no header names.
        let require = require.keys().filter_map(|name| name.parse().ok());
        let ts = ts.iter().filter_map(|ts| match &ts.from {
            Locator::Header(name) => Some(name.clone()),
            _ => None,
        });
        let time = time.iter().flat_map(|time| time.from.headers());
        let located = id.headers().chain(event_type.headers()).chain(subject.headers()).chain(time).cloned();
        require.chain(ts).chain(located).collect()
    }

    /// Whether a signature of it covers any time of an event: its own, or that of the signature.
    pub fn tells_age(&self) -> bool {
        let Knobs { ts, time, .. } = &self.knobs;
        let in_body = |locator: &Locator| matches!(locator, Locator::Json(_));
        let signed = ts.is_some() || time.as_ref().is_some_and(|time| time.from.0.iter().any(in_body));
        signed && !self.is_bearer()
    }

    /// Whether an event's id is a digest of its body, where the body says no other. Whoever has all of a body but one short
    /// value can find that value by such an id.
    pub fn digests_body(&self) -> bool {
        matches!(self.knobs.id.0.first(), Some(Locator::Sha256))
    }

    /// An attribute that this scheme takes from a value which is to be masked: it would be seen all the same.
    pub fn shows(&self, redaction: &Redaction) -> Option<&'static str> {
        let Knobs { id, event_type, subject, time, .. } = &self.knobs;
        let time = time.as_ref().map(|time| &time.from);
        let places =
            [("id", Some(id)), ("type", Some(event_type)), ("subject", Some(subject)), ("time", time)];
        let shown = |locator: &Locator| match locator {
            Locator::Json(pointer) => redaction.covers_all_of(pointer),
            _ => false,
        };
        let found = places.into_iter().find(|(_, from)| from.is_some_and(|from| from.0.iter().any(shown)));
        found.map(|(attribute, _)| attribute)
    }

    /// Whether the knobs fit together.
    fn check(&self) -> Result<(), String> {
        let Knobs { alg, sig, require, signed, ts, id, event_type, subject, many, handshake, .. } =
            &self.knobs;
        let equality = *alg == Algorithm::Equality;
        let rules = [
            (sig.headers.is_empty(), "`sig.headers` names no header"),
            (
                handshake.is_some_and(Handshakes::returns_mac) && *alg != Algorithm::HmacSha256,
                "`handshake` returns a MAC, so `alg` must be hmac-sha256",
            ),
            (sig.headers.len() > 8, "`sig.headers` names more than 8 headers"),
            (sig.pairwise && sig.headers.len() < 2, "`sig.pairwise` needs two headers or more"),
            (sig.tags.is_empty() != sig.kv_sep.is_none(), "`sig.tags` and `sig.kv-sep` go together"),
            (
                sig.item_sep.is_some() && sig.item_sep == sig.kv_sep,
                "`sig.item-sep` and `sig.kv-sep` must differ",
            ),
            (
                equality != (sig.encoding == Encoding::Raw),
                "`sig.encoding = \"raw\"` goes with `alg = \"equality\"`",
            ),
            (
                equality != signed.0.is_empty(),
                "`signed` is empty for `alg = \"equality\"` and for nothing else",
            ),
            (
                !equality && !signed.has(&Part::Body),
                "`signed` leaves out {body}, so the body would be unproved",
            ),
            (signed.has(&Part::Ts) && ts.is_none(), "`signed` uses {ts}, but `ts` is not given"),
            (
                signed.has(&Part::Id) && !matches!(id.0.as_slice(), [Locator::Header(_)]),
                "`signed` uses {id}, so `id` must be one header",
            ),
            (
                signed
                    .0
                    .windows(2)
                    .any(|pair| matches!(pair, [Part::Id, Part::Body] | [Part::Body, Part::Id])),
                "`signed` puts {id} beside {body}, so a part of one could be taken for the other",
            ),
            (
                id.0.iter().any(|place| matches!(place, Locator::Const(_))),
                "`id` must differ from event to event",
            ),
            (
                [id, event_type, subject]
                    .iter()
                    .any(|places| places.0.iter().any(|place| matches!(place, Locator::Field(_)))),
                "`field:` is for `ts` only",
            ),
            (
                [sig.item_sep, sig.kv_sep].iter().flatten().any(|separator| !separator.0.is_ascii()),
                "`sig.item-sep` and `sig.kv-sep` are ASCII characters",
            ),
            (
                signed.has(&Part::Ts) && ts.as_ref().is_some_and(|ts| matches!(ts.from, Locator::Json(_))),
                "`signed` uses {ts}, so `ts.from` cannot stand in the body",
            ),
        ];
        let broken: Vec<_> = rules.iter().filter(|(broken, _)| *broken).map(|(_, rule)| *rule).collect();
        if !broken.is_empty() {
            return Err(broken.join("; "));
        }
        if self.is_bearer() {
            let read = self.read_headers();
            if let Some(token) = sig.headers.iter().find(|header| read.contains(&header.0)) {
                return Err(format!(
                    "`{}` carries the secret itself, so nothing else can be taken from it",
                    token.0
                ));
            }
        }
        if let Some(ts) = ts {
            if [ts.past, ts.future].iter().any(|window| window.get().as_secs() == 0) {
                return Err("`ts.past` and `ts.future` are at least 1s".into());
            }
            match &ts.from {
                Locator::Header(_) | Locator::Field(_) if !signed.has(&Part::Ts) => {
                    return Err(
                        "`ts` is not part of `signed`, so anybody could change it and replay a request"
                            .into(),
                    );
                }
                Locator::Field(_) if sig.kv_sep.is_none() || sig.item_sep.is_none() => {
                    return Err("`ts.from = \"field:..\"` needs `sig.item-sep` and `sig.kv-sep`".into());
                }
                Locator::Sha256 | Locator::Const(_) => {
                    return Err("`ts.from` must be a header, field or json place".into());
                }
                _ => {}
            }
        }
        if let Some(name) = require.keys().find(|name| name.parse::<HeaderName>().is_err()) {
            return Err(format!("`require` names `{name}`, which is not a header name"));
        }
        if let Some(many) = many {
            Pointer::parse(many)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scheme_reads() {
        assert_eq!(Scheme::built_in_names().count(), 38);
        assert!(Scheme::built_in("fastpix").is_some());
        assert!(Scheme::built_in("FastPix").is_none());
    }

    #[test]
    fn a_token_is_a_bearer_header_and_no_proof() {
        let scheme = Scheme::built_in("gitlab-token").unwrap();
        assert_eq!(scheme.bearer_headers().collect::<Vec<_>>(), ["x-gitlab-token"]);
        assert_eq!(scheme.proof_headers(), ["idempotency-key", "x-gitlab-event"]);
    }

    #[test]
    fn knobs_that_do_not_fit_are_refused() {
        let sound = "alg='hmac-sha256'\nsig={headers=['X-Sig'],encoding='hex'}\nsigned='{body}'\n";
        assert!(toml::from_str::<Scheme>(sound).is_ok());
        for (wrong, says) in [
            ("alg='hmac-sha256'\nsig={headers=[],encoding='hex'}\nsigned='{body}'", "no header"),
            ("alg='hmac-sha256'\nsig={headers=['a'],encoding='hex'}\nsigned='{ts}'", "{body}"),
            (
                "alg='hmac-sha256'\nsig={headers=['a'],encoding='hex'}\nsigned='{ts}{body}'",
                "`ts` is not given",
            ),
            ("alg='hmac-sha256'\nsig={headers=['a'],encoding='raw'}\nsigned='{body}'", "equality"),
            ("alg='equality'\nsig={headers=['a'],encoding='raw'}\nsigned='{body}'", "empty"),
            (
                "alg='hmac-sha256'\nsig={headers=['a'],encoding='hex'}\nsigned='{id}{body}'\nid='json:/id'",
                "one header",
            ),
            (
                "alg='hmac-sha256'\nsig={headers=['a'],encoding='hex',tags=['v1']}\nsigned='{body}'",
                "go together",
            ),
            ("alg='hmac-sha256'\nsig={headers=['a b'],encoding='hex'}\nsigned='{body}'", "not a header name"),
            ("alg='hmac-sha256'\nsig={headers=['a'],encoding='hex'}\nsigned='{bdy}'", "cannot be signed"),
            (
                "alg='hmac-sha256'\nsig={headers=['a'],encoding='hex'}\nsigned='{body}'\nid='/id'",
                "names no place",
            ),
        ] {
            let error = toml::from_str::<Scheme>(wrong).unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
