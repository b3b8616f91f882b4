//! Rates as people write them: `500/s`, `1000/m`, or a table with how many may come at once.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Error as _, MapAccess, Visitor},
};

use super::server::Count;

/// So many requests at once, and so many in a length of time.
///
/// Written as `"500/s"`, which allows 500 at once, or as `{ rate = "500/s", burst = 2000 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    rate: Rate,
    burst: u32,
}

/// A number of requests in a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    count: u32,
    per: char,
}

/// The largest number of requests in a rate or a burst.
const MOST: u32 = 1_000_000;

impl RateLimit {
    /// `count` requests a minute, and as many at once, for defaults.
    pub(crate) const fn per_minute(count: u32) -> Self {
        Self { rate: Rate { count, per: 'm' }, burst: count }
    }

    /// How long it takes until one more is allowed.
    pub fn interval(&self) -> Duration {
        let seconds = match self.rate.per {
            's' => 1,
            'm' => 60,
            _ => 3_600,
        };
        Duration::from_secs(seconds) / self.rate.count
    }

    /// How many are allowed at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why| format!("`{text}` is not a rate{why}, such as \"500/s\", \"1000/m\" or \"20/h\"");
        let (count, per) = text.split_once('/').ok_or_else(|| wrong(""))?;
        let per = match per.trim() {
            "s" => 's',
            "m" => 'm',
            "h" => 'h',
            _ => return Err(wrong("")),
        };
        let count = count.trim();
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse::<u32>().ok().filter(|count| digits && (1..=MOST).contains(count));
        count.map(|count| Self { count, per }).ok_or_else(|| wrong(" of 1 to 1000000 requests"))
    }
}

impl From<Rate> for RateLimit {
    fn from(rate: Rate) -> Self {
        Self { rate, burst: rate.count }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate: Rate { count, per }, burst } = self;
        write!(f, "{count}/{per}, {burst} at once")
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let description = "requests in a second, a minute or an hour, such as \"500/s\"";
        json_schema!({ "type": "string", "description": description, "pattern": "^[0-9]+ */ *[smh]$" })
    }
}

/// A rate limit as a table.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RateTable {
    /// How many requests in a length of time.
    rate: Rate,
    /// How many of them at once. Default: as many as the rate names.
    burst: Option<Count>,
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RateLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text such as \"500/s\", or a table with `rate` and `burst`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RateLimit, E> {
                text.parse::<Rate>().map(RateLimit::from).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<RateLimit, A::Error> {
                let RateTable { rate, burst } =
                    RateTable::deserialize(de::value::MapAccessDeserializer::new(entries))?;
                let limit = RateLimit::from(rate);
                let Some(Count(burst)) = burst else { return Ok(limit) };
                let burst = u32::try_from(burst).ok().filter(|burst| *burst <= MOST);
                let burst = burst.ok_or_else(|| A::Error::custom("`burst` is at most 1000000"))?;
                Ok(RateLimit { burst, ..limit })
            }
        }

        input.deserialize_any(Either)
    }
}

impl JsonSchema for RateLimit {
    fn schema_name() -> Cow<'static, str> {
        "rate-limit".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (text, table) = (generator.subschema_for::<Rate>(), generator.subschema_for::<RateTable>());
        json_schema!({ "anyOf": [text, table] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, micros, burst) in [
            ("500/s", 2_000, 500),
            ("1000/m", 60_000, 1_000),
            ("20 / h", 180_000_000, 20),
            ("1/s", 1_000_000, 1),
        ] {
            let limit = RateLimit::from(text.parse::<Rate>().unwrap());
            assert_eq!((limit.interval(), limit.burst()), (Duration::from_micros(micros), burst), "{text}");
        }
        for text in
            ["", "500", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "1/d", "1/ms", "1000001/s", "99999999999/s"]
        {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
