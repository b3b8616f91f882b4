//! Handshakes: what a provider asks a URL before it sends events there, and what it is answered.
//!
//! A provider's handshakes are rows of a table ([`table`]), and its scheme names them. Those told by the head alone
//! are unsigned and answered in [`Verifier::examine`](super::Verifier::examine); the others are signed like events and
//! answered in [`Claim::receive`](super::Claim::receive). A handshake never becomes an event.
//!
//! A handshake that returns a MAC makes us sign what somebody else chose, under the key that proves events. Three
//! rules keep that from being of use: it is verified first wherever the provider signs it; it signs nothing but
//! `[A-Za-z0-9_-]{1,64}`; and a scheme with such a handshake takes no event whose signed bytes have that form.

mod answer;
mod query;
mod rule;
mod table;

use std::{borrow::Cow, fmt};

use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

pub use answer::{HandshakeAnswer, UnsignedProbe};
pub(super) use rule::{Asked, Slots, VerifyToken, could_be_challenge};

use super::{Refusal, RequestHead};
use crate::nearest;
use rule::{By, Rule};

/// The handshakes of one provider.
#[derive(Clone, Copy)]
pub(crate) struct Handshakes {
    name: &'static str,
    rules: &'static [Rule],
}

impl Handshakes {
    /// Those of a provider.
    pub(crate) fn named(name: &str) -> Option<Self> {
        table::ALL.iter().find(|one| one.name == name).copied()
    }

    /// The providers that have any.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> + Clone {
        table::ALL.iter().map(|one| one.name)
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// Whether one of them is a GET.
    pub(crate) fn takes_get(self) -> bool {
        self.rules.iter().any(|rule| rule.by.takes(&Method::GET))
    }

    /// Whether one of them is answered only to those who know a token that was agreed on.
    pub(crate) fn needs_verify_token(self) -> bool {
        self.rules.iter().any(|rule| rule.verify_token.is_some())
    }

    /// Whether one of them is answered while there is no secret yet.
    pub(crate) fn answers_without_secret(self) -> bool {
        self.rules.iter().any(|rule| rule.by != By::SignedPost && !rule.returns_mac())
    }

    /// Whether one of them returns a MAC under the key of the source.
    pub(crate) fn returns_mac(self) -> bool {
        self.rules.iter().any(Rule::returns_mac)
    }

    /// The test of the URL that is an unsigned request with next to no body.
    pub(super) fn unsigned_probe(self) -> Option<UnsignedProbe> {
        self.rules.iter().find(|rule| rule.by == By::EmptyPost).map(UnsignedProbe::new)
    }

    /// Answers what the head alone tells.
    ///
    /// # Errors
    /// A handshake whose conditions do not hold. A GET is one, or nothing.
    pub(super) fn by_head(self, asked: &Asked<'_, '_>) -> Result<Option<HandshakeAnswer>, Refusal> {
        let method = asked.head.method;
        for rule in self.rules.iter().filter(|rule| rule.by.takes(method)) {
            if let Some(answer) = rule.examine(asked)? {
                return Ok(Some(answer));
            }
        }
        if *method == Method::GET && self.takes_get() { Err(Refusal::MissingChallenge) } else { Ok(None) }
    }

    /// Answers what only an authentic body tells.
    ///
    /// # Errors
    /// A handshake whose challenge is missing or not of its form.
    pub(super) fn by_body(self, asked: &Asked<'_, '_>) -> Result<Option<HandshakeAnswer>, Refusal> {
        for rule in self.rules.iter().filter(|rule| rule.by == By::SignedPost) {
            if let Some(answer) = rule.examine(asked)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// The places in the body that these handshakes are told by.
    pub(super) fn pointers(self) -> impl Iterator<Item = &'static str> {
        self.rules.iter().flat_map(Rule::pointers)
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handshakes({})", self.name)
    }
}

impl<'de> Deserialize<'de> for Handshakes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(input)?;
        Self::named(&name).ok_or_else(|| {
            let near = nearest(&name, Self::names()).map(|near| format!(", did you mean `{near}`?"));
            let all = crate::config::quoted(Self::names());
            D::Error::custom(format!(
                "there is no handshake `{name}`{}",
                near.unwrap_or_else(|| format!("; there are {all}"))
            ))
        })
    }
}

impl JsonSchema for Handshakes {
    fn schema_name() -> Cow<'static, str> {
        "Handshake".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = Self::names().collect();
        json_schema!({ "description": "the provider whose tests of the URL are answered", "enum": names })
    }
}
