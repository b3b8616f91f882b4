//! `options`: properties of librdkafka that have no key of their own.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// Properties of librdkafka by their names there; values are texts, numbers or booleans.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, String>);

/// Properties that are not for `options`, by the beginning of their name, and why.
const REFUSED: &[(&str, &str)] = &[
    ("acks", ACKS),
    ("request.required.acks", ACKS),
    ("enable.idempotence", ORDER),
    ("enable.gapless.guarantee", ORDER),
    ("max.in.flight", ORDER),
    ("max.in.flight.requests.per.connection", ORDER),
    ("queuing.strategy", ORDER),
    ("message.timeout.ms", TIMEOUT),
    ("delivery.timeout.ms", TIMEOUT),
    ("retries", RETRIES),
    ("message.send.max.retries", RETRIES),
    ("delivery.report.only.error", "every event needs its confirmation"),
    ("transaction", "events are confirmed one by one, not in transactions"),
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("compression.", "use `compression`"),
    ("security.protocol", "it follows from `tls` and `sasl`"),
    ("sasl.", "use `sasl`"),
    ("ssl.ca.", "use `tls`"),
    ("ssl.certificate.", "use `tls`"),
    ("ssl.key.", "use `tls`"),
    ("ssl.keystore.", "use `tls`"),
    ("ssl.truststore.", "use `tls`"),
    ("ssl.engine.", "it loads code"),
    ("ssl.providers", "it loads code"),
    ("ssl.endpoint.identification.algorithm", "a broker that is not verified may be anybody"),
    ("test.", "events would go nowhere"),
    ("queue.buffering.max.kbytes", "what a sink may hold is limited by its lane"),
    ("enable.ssl.certificate.verification", "a broker that is not verified may be anybody"),
    ("plugin.library.paths", "it loads code"),
];

const ACKS: &str = "an event is delivered when every replica in sync has it";
const ORDER: &str = "it is part of the promise of order";
const TIMEOUT: &str = "the deadline is the sink's `publish-timeout`; a second one would break the order";
const RETRIES: &str =
    "what is given up here would break the order; the sink's `publish-timeout` is the limit";

impl Options {
    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether none of them breaks a promise.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, value) in self.iter() {
            let same = |refused: &str| match refused.strip_suffix('.') {
                Some(_) => name.starts_with(refused),
                None => name == refused || refused == "transaction" && name.starts_with("transaction"),
            };
            if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| same(refused)) {
                return Err(format!("`{name}` cannot be set here: {why}"));
            }
            // Events of one key would land anywhere.
            if name == "partitioner" && value == "random" {
                return Err(format!("`partitioner` cannot be `random`: {ORDER}"));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    // Names only: a value may be what nobody should see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let read = BTreeMap::<String, Property>::deserialize(input)?;
        Ok(Self(read.into_iter().map(|(name, Property(value))| (name, value)).collect()))
    }
}

/// A value as librdkafka takes it: text.
struct Property(String);

impl<'de> Deserialize<'de> for Property {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl de::Visitor<'_> for Scalar {
            type Value = Property;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or a boolean")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Property, E> {
                Ok(Property(text.to_owned()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Property, E> {
                Ok(Property(number.to_string()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Property, E> {
                Ok(Property(number.to_string()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Property, E> {
                Ok(Property(number.to_string()))
            }
            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Property, E> {
                Ok(Property(flag.to_string()))
            }
        }
        input.deserialize_any(Scalar)
    }
}

impl JsonSchema for Options {
    fn schema_name() -> Cow<'static, str> {
        "KafkaOptions".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "properties of librdkafka",
            "additionalProperties": { "type": ["string", "number", "boolean"] }
        })
    }
}
