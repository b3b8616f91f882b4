//! What a scheme signs: `{body}`, `{ts}`, `{id}`, `{url}`, `{method}` and literal text.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(Box<str>),
    Body,
    Ts,
    Id,
    Url,
    Method,
}

/// The signed bytes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedTemplate(pub(crate) Vec<Part>);

/// The values a template is filled with, as they were received.
#[derive(Clone, Copy)]
pub(crate) struct SignedValues<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) ts: &'a [u8],
    pub(crate) id: &'a [u8],
    pub(crate) url: &'a [u8],
    pub(crate) method: &'a [u8],
}

impl SignedTemplate {
    pub(crate) fn has(&self, part: &Part) -> bool {
        self.0.contains(part)
    }

    /// The signed bytes piece by piece, so that the body is hashed where it lies.
    pub(crate) fn pieces<'a>(&'a self, values: SignedValues<'a>) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.0.iter().map(move |part| match part {
            Part::Literal(text) => text.as_bytes(),
            Part::Body => values.body,
            Part::Ts => values.ts,
            Part::Id => values.id,
            Part::Url => values.url,
            Part::Method => values.method,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let literal = rest.find(['{', '}']).unwrap_or(rest.len());
            if literal > 0 {
                parts.push(Part::Literal(rest[..literal].into()));
                rest = &rest[literal..];
                continue;
            }
            let end =
                rest.find('}').ok_or_else(|| format!("`{rest}` opens a brace and does not close it"))?;
            parts.push(match &rest[..=end] {
                "{body}" => Part::Body,
                "{ts}" => Part::Ts,
                "{id}" => Part::Id,
                "{url}" => Part::Url,
                "{method}" => Part::Method,
                other => {
                    return Err(format!(
                        "`{other}` cannot be signed; use {{body}}, {{ts}}, {{id}}, {{url}} or {{method}}"
                    ));
                }
            });
            rest = &rest[end + 1..];
        }
        Ok(Self(parts))
    }
}

impl<'de> Deserialize<'de> for SignedTemplate {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Self::parse(&Cow::<str>::deserialize(input)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for SignedTemplate {
    fn schema_name() -> Cow<'static, str> {
        "SignedTemplate".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "{body}, {ts}, {id}, {url}, {method} and literal text" })
    }
}
