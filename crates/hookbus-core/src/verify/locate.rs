//! Where in a request a value stands.

use std::{borrow::Cow, str::FromStr};

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::json::Pointer;

/// One place: `header:NAME`, `field:TAG` (an element of the signature header), `json:/POINTER`, `sha256` (the
/// digest of the body) or `const:TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Locator {
    Header(HeaderName),
    Field(Box<str>),
    Json(Pointer),
    Sha256,
    Const(Box<str>),
}

impl FromStr for Locator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("header", name)) => {
                let name =
                    HeaderName::from_str(name).map_err(|_| format!("`{name}` is not a header name"))?;
                Ok(Self::Header(name))
            }
            Some(("field", tag)) if !tag.is_empty() => Ok(Self::Field(tag.into())),
            Some(("json", pointer)) => Pointer::parse(pointer).map(Self::Json).map_err(str::to_owned),
            Some(("const", text)) if !text.is_empty() => Ok(Self::Const(text.into())),
            None if text == "sha256" => Ok(Self::Sha256),
            _ => Err(format!(
                "`{text}` names no place in a request; write header:NAME, field:TAG, json:/POINTER, const:TEXT or sha256"
            )),
        }
    }
}

/// Places to look in turn; the first that yields something counts. Written as one text or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Locators(pub(crate) Vec<Locator>);

impl Locators {
    pub(crate) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().filter_map(|locator| match locator {
            Locator::Header(name) => Some(name),
            _ => None,
        })
    }
}

impl<'de> Deserialize<'de> for Locator {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Locators {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Locators;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a place such as \"json:/id\", or a list of them")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Locators, E> {
                Ok(Locators(vec![text.parse().map_err(E::custom)?]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Locators, A::Error> {
                let many = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                if many.len() > 8 { Err(A::Error::custom("at most 8 places")) } else { Ok(Locators(many)) }
            }
        }
        input.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for Locator {
    fn schema_name() -> Cow<'static, str> {
        "Locator".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "header:NAME, field:TAG, json:/POINTER, const:TEXT or sha256",
            "pattern": "^(header:.+|field:.+|json:(/.*)?|const:.+|sha256)$"
        })
    }
}

impl JsonSchema for Locators {
    fn schema_name() -> Cow<'static, str> {
        "Locators".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Locator>();
        json_schema!({
            "description": "one place, or several to try in turn",
            "anyOf": [one, { "type": "array", "items": one, "maxItems": 8 }]
        })
    }
}
