//! Networks as people write them: `10.0.0.0/8`, `2001:db8::/32`, or a single address.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// A network of addresses, or a single address.
///
/// IPv4 addresses that are written as IPv6 ones (`::ffff:10.0.0.1`) are the IPv4 addresses they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address is one of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()) & mask_v4(self.prefix) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()) & mask_v6(self.prefix) == 0
            }
            _ => false,
        }
    }

    /// Its address with the bits behind the mask set to zero.
    fn masked(self) -> Self {
        let first = match self.first {
            IpAddr::V4(first) => IpAddr::V4((first.to_bits() & mask_v4(self.prefix)).into()),
            IpAddr::V6(first) => IpAddr::V6((first.to_bits() & mask_v6(self.prefix)).into()),
        };
        Self { first, ..self }
    }
}

/// The bits of an IPv4 address that a prefix fixes.
fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// The bits of an IPv6 address that a prefix fixes.
fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

/// The bits of an address of this kind.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(first) = address.parse::<IpAddr>() else {
            let example = "\"10.0.0.0/8\", \"192.0.2.7\" or \"2001:db8::/32\"";
            return Err(format!("`{text}` is no network and no IP address, such as {example}"));
        };
        let width = width(first);
        let Some(prefix) = prefix else { return Ok(Self { first, prefix: width }.canonical()) };
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix| digits && *prefix <= width);
        let Some(prefix) = prefix else {
            return Err(format!("`{text}` has no prefix from 1 to {width} behind its `/`"));
        };
        if prefix == 0 {
            return Err(format!("`{text}` is everybody: then any client could pass for any other"));
        }
        let network = Self { first, prefix };
        if network.masked() != network {
            return Err(format!(
                "`{text}` has bits set behind its mask: the network is `{}`, the single address `{first}`",
                network.masked()
            ));
        }
        Ok(network.canonical())
    }
}

impl Network {
    /// An IPv4 network where it is written as an IPv6 one.
    fn canonical(self) -> Self {
        match (self.first.to_canonical(), self.prefix.checked_sub(96)) {
            (first @ IpAddr::V4(_), Some(prefix)) if self.first.is_ipv6() => Self { first, prefix },
            _ => self,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, prefix } = self;
        if *prefix == width(*first) { write!(f, "{first}") } else { write!(f, "{first}/{prefix}") }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Network;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text such as \"10.0.0.0/8\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Network, E> {
                text.parse().map_err(E::custom)
            }
        }

        // Not read as a text first: only what a visitor refuses has the place of its element in a list.
        input.deserialize_str(Text)
    }
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let description = "an IPv4 or IPv6 network, such as \"10.0.0.0/8\", or a single address";
        json_schema!({ "type": "string", "description": description })
    }
}

/// What counts as one address: an IPv4 address, however it is written, or an IPv6 network of 64 bits, which one
/// customer has whole.
pub(crate) fn one_customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & mask_v6(64)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn wrong(text: &str) -> String {
        text.parse::<Network>().unwrap_err()
    }

    #[test]
    fn a_network_contains_what_its_prefix_says() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.6/31", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "::ffff:11.1.2.3"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("128.0.0.0/1", "255.0.0.0", "127.0.0.1"),
            ("8000::/1", "ffff::", "10.0.0.1"),
        ] {
            assert!(network(text).contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network(text).contains(outside.parse().unwrap()), "{text} {outside}");
        }
    }

    #[test]
    fn what_is_wrong_says_what_was_meant() {
        assert_eq!(
            wrong("10.1.0.7/8"),
            "`10.1.0.7/8` has bits set behind its mask: the network is `10.0.0.0/8`, the single address `10.1.0.7`"
        );
        assert!(wrong("2001:db8::1/64").contains("`2001:db8::/64`"));
        assert!(wrong("0.0.0.0/0").contains("everybody") && wrong("::/0").contains("everybody"));
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(wrong(text).contains("prefix"), "{text}: {}", wrong(text));
        }
        for text in ["", "/8", "10.0.0", "010.0.0.1", "localhost", "10.0.0.1:80", "[::1]", "10.0.0.0 /8"] {
            assert!(wrong(text).contains("is no network and no IP address"), "{text}: {}", wrong(text));
        }
    }

    #[test]
    fn networks_are_shown_as_they_are_written() {
        for text in ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"] {
            assert_eq!(network(text).to_string(), text);
        }
    }

    #[test]
    fn an_ipv6_network_is_one_customer() {
        let of = |text: &str| one_customer(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:127.0.0.1"), of("127.0.0.1"));
    }
}
