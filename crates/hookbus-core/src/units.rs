//! Durations and sizes as people write them in a configuration: `"250ms"`, `"2s"`, `"64KiB"`.

use std::{borrow::Cow, fmt, str::FromStr, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

/// A length of time: a whole number and `ms`, `s`, `m`, `h` or `d`. Zero is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(time::Duration);

impl Duration {
    /// `count` seconds, for defaults.
    pub const fn from_secs(count: u64) -> Self {
        Self(time::Duration::from_secs(count))
    }

    /// As the standard library's duration.
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (count, unit) = split(text);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad(text, "a duration", "\"250ms\", \"2s\", \"15m\", \"1h\" or \"3d\"")),
        };
        match count.and_then(|count| count.checked_mul(millis)) {
            Some(0) => Err("a duration of zero is not allowed here".into()),
            Some(millis) => Ok(Self(time::Duration::from_millis(millis))),
            None => Err(bad(text, "a duration", "\"250ms\", \"2s\", \"15m\", \"1h\" or \"3d\"")),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .iter()
            .find(|(unit, _)| millis.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", millis / unit),
            None => write!(f, "{millis}ms"),
        }
    }
}

/// A number of bytes: a whole number and `B`, `KiB`, `MiB`, `GiB`, or `KB`, `MB`, `GB`. Zero is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `count` bytes, for defaults.
    pub const fn from_bytes(count: u64) -> Self {
        Self(count)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory, capped where it does not fit.
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (count, unit) = split(text);
        let factor = match unit {
            "B" => 1,
            "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(bad(text, "a size", "\"512B\", \"64KiB\", \"1MiB\" or \"10GiB\"")),
        };
        match count.and_then(|count| count.checked_mul(factor)) {
            Some(0) => Err("a size of zero is not allowed here".into()),
            Some(bytes) => Ok(Self(bytes)),
            None => Err(bad(text, "a size", "\"512B\", \"64KiB\", \"1MiB\" or \"10GiB\"")),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .iter()
            .find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

fn split(text: &str) -> (Option<u64>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (text[..digits].parse().ok(), text[digits..].trim_start())
}

fn bad(text: &str, what: &str, examples: &str) -> String {
    format!("`{text}` is not {what}; write a whole number and a unit, such as {examples}")
}

macro_rules! from_text {
    ($type:ident, $description:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(input)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "pattern": $pattern })
            }
        }
    };
}

from_text!(Duration, "a whole number and ms, s, m, h or d, such as \"250ms\"", "^[0-9]+ *(ms|s|m|h|d)$");
from_text!(
    ByteSize,
    "a whole number and B, KiB, MiB, GiB, KB, MB or GB, such as \"64KiB\"",
    "^[0-9]+ *([KMG]i?)?B$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for text in ["250ms", "2s", "15m", "1h", "3d"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        for text in ["", "2", "s", "-1s", "1.5s", "0s", "99999999999999999999s", "1w"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(ByteSize::from_bytes(0).to_string(), "0B");
        for text in ["512B", "64KiB", "1MiB", "10GiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in ["", "64", "0B", "64K", "64kb", "99999999999999999999B", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
