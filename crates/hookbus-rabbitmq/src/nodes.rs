//! Where the broker is: the URLs of its nodes.

use std::{borrow::Cow, fmt, str::FromStr};

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

const SHAPE: &str = "expected amqp://HOST:PORT/VHOST or amqps://HOST:PORT/VHOST";

/// The nodes of one broker: one URL or a list of them, all with the same virtual host, all with TLS or none. There is
/// no place for credentials in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes(Vec<Node>);

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    tls: bool,
    host: String,
    port: u16,
    vhost: String,
}

impl Nodes {
    /// Whether they are spoken to with TLS.
    pub(crate) fn tls(&self) -> bool {
        self.0.iter().any(|node| node.tls)
    }

    /// All of them, beginning with the one at `first`, each with its place.
    pub(crate) fn from(&self, first: usize) -> impl ExactSizeIterator<Item = (usize, &Node)> {
        (0..self.0.len()).map(move |step| {
            let at = (first + step) % self.0.len();
            (at, &self.0[at])
        })
    }

    fn checked(nodes: Vec<Node>) -> Result<Self, &'static str> {
        let first = nodes.first().ok_or("a list of URLs needs at least one")?;
        if nodes.iter().any(|node| node.tls != first.tls) {
            return Err("all URLs begin with amqps://, or none: a connection would lose its TLS by chance");
        }
        if nodes.iter().any(|node| node.vhost != first.vhost) {
            return Err("all URLs name the same virtual host: they are nodes of one broker");
        }
        Ok(Self(nodes))
    }
}

impl Node {
    /// The server's name, as its certificate has it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is spoken to with TLS.
    pub(crate) fn tls(&self) -> bool {
        self.tls
    }

    /// In the driver's terms, and without TLS and credentials, which are not the URL's business here.
    pub(crate) fn uri(&self, heartbeat: u16) -> AMQPUri {
        let nobody = AMQPUserInfo { username: String::new(), password: String::new() };
        AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority { userinfo: nobody, host: self.host.clone(), port: self.port },
            vhost: self.vhost.clone(),
            query: AMQPQueryString { heartbeat: Some(heartbeat), ..AMQPQueryString::default() },
        }
    }
}

impl FromStr for Node {
    type Err = &'static str;

    // By hand, because the driver's own reader takes credentials, and takes `[::1]` for `localhost`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (tls, rest) = match text.split_once("://") {
            Some(("amqp", rest)) => (false, rest),
            Some(("amqps", rest)) => (true, rest),
            _ => return Err(SHAPE),
        };
        if rest.contains('@') {
            return Err(
                "user and password do not belong into the URL: use `username` and `password = { env = \"NAME\" }`",
            );
        }
        if rest.contains(['?', '#']) {
            return Err("options do not belong into the URL: they are keys of the sink");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('/') {
            return Err("a `/` in the name of a virtual host is written `%2f`");
        }
        let vhost = if path.is_empty() { "/".to_owned() } else { decoded(path).ok_or(SHAPE)? };
        if vhost.len() > 255 {
            return Err("the name of a virtual host is at most 255 bytes long");
        }
        let default = if tls { "5671" } else { "5672" };
        // An IPv6 address has brackets, because it has colons itself.
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(default))),
            None => authority.split_once(':').map_or((authority, Some(default)), |(h, p)| (h, Some(p))),
        };
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port > 0).ok_or(SHAPE)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(SHAPE);
        }
        Ok(Self { tls, host: host.to_owned(), port, vhost })
    }
}

/// Undoes percent-encoding; nothing where it is none, or not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        // The text is not repeated in the message: it may hold a password.
        Cow::<str>::deserialize(input)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> de::Visitor<'de> for OneOrMore {
            type Value = Nodes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL or a list of URLs")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Nodes, E> {
                text.parse().map(|node| Nodes(vec![node])).map_err(E::custom)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Nodes, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = list.next_element()? {
                    nodes.push(node);
                }
                Nodes::checked(nodes).map_err(de::Error::custom)
            }
        }
        input.deserialize_any(OneOrMore)
    }
}

impl JsonSchema for Nodes {
    fn schema_name() -> Cow<'static, str> {
        "Nodes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "amqp://HOST:PORT/VHOST or amqps://HOST:PORT/VHOST, or a list of such",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Result<(String, String), &'static str> {
        text.parse::<Node>().map(|node| (node.to_string(), node.vhost))
    }

    #[test]
    fn urls_are_read() {
        for (text, address, vhost) in [
            ("amqp://localhost", "localhost:5672", "/"),
            ("amqp://localhost/", "localhost:5672", "/"),
            ("amqps://localhost", "localhost:5671", "/"),
            ("amqp://10.0.0.1:7000/hooks", "10.0.0.1:7000", "hooks"),
            ("amqp://[::1]:7000/%2fa%2Fb", "[::1]:7000", "/a/b"),
            ("amqp://[::1]/caf%C3%A9", "[::1]:5672", "café"),
        ] {
            assert_eq!(node(text), Ok((address.into(), vhost.into())), "{text}");
        }
    }

    #[test]
    fn wrong_urls_are_refused() {
        for text in [
            "localhost:5672",
            "http://h",
            "amqp://",
            "amqp://h:0",
            "amqp://h:x",
            "amqp://h:99999",
            "amqp://h/%2",
            "amqp://h/%+f",
            "amqp://h/%ff",
            "amqp://h/%00",
            "amqp://h h/",
            "amqp://[::1",
        ] {
            assert_eq!(node(text), Err(SHAPE), "{text}");
        }
        assert!(node("amqp://h/a/b").unwrap_err().contains("%2f"));
        assert!(node("amqp://h/?heartbeat=3").unwrap_err().contains("keys of the sink"));
        assert!(node(&format!("amqp://h/{}", "v".repeat(256))).unwrap_err().contains("255"));
        for secret in ["amqp://user:hunter2@h", "amqp://hunter2@h:5672/v"] {
            let error = node(secret).unwrap_err();
            assert!(error.contains("password = {") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn nodes_are_tried_in_turn() {
        let nodes =
            Nodes::checked(["amqp://a", "amqp://b", "amqp://c"].map(|url| url.parse().unwrap()).into());
        let order = |first| nodes.clone().unwrap().from(first).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(order(0), [0, 1, 2]);
        assert_eq!(order(2), [2, 0, 1]);
        let wrong =
            |urls: [&str; 2]| Nodes::checked(urls.map(|url| url.parse().unwrap()).into()).unwrap_err();
        assert!(wrong(["amqp://a", "amqps://b"]).contains("or none"));
        assert!(wrong(["amqp://a/x", "amqp://b/y"]).contains("same virtual host"));
        assert!(Nodes::checked(vec![]).is_err());
    }
}
