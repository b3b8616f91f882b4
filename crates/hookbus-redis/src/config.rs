//! `[sinks.NAME]` of type `redis`.

use std::{borrow::Cow, fmt, str::FromStr};

use hookbus_core::{SecretRef, TlsConfig, registry::Invalid, units::Duration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// Configuration of a `redis` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "redis")]
pub struct RedisConfig {
    /// The server and the number of its database: `redis://HOST:PORT/DB`, or `rediss://` for TLS. Default port 6379,
    /// default database 0.
    pub url: RedisUrl,
    /// The user to log in as, an ACL user of Redis 6 or later. Default: the server's `default` user.
    #[serde(default)]
    pub username: Option<String>,
    /// Where the user's password is. Read at each connect.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// What TLS needs beyond a `rediss://` URL and the system's certificates.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// A stream keeps about so many of its newest entries (`MAXLEN ~`). Default: all.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_len: Option<u64>,
    /// A stream keeps entries for about so long (`MINID ~`), by this machine's clock. Default: for ever.
    #[serde(default)]
    pub max_age: Option<Duration>,
    /// When an event counts as delivered: `reply`, or `replicas:N` for so many replicas that have it too (`WAIT`).
    /// Default: `reply`.
    #[serde(default)]
    pub confirm: Confirm,
}

/// When an event counts as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirm {
    /// The server has it.
    #[default]
    Reply,
    /// So many of its replicas have it as well.
    Replicas(u16),
}

/// The address of a server, without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: i64,
    pub(crate) tls: bool,
}

impl RedisConfig {
    /// What types cannot say.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let wrong = |key, message: &str| Err(Invalid { key, message: message.into() });
        if self.url.tls && !cfg!(feature = "tls") {
            return wrong(
                "url",
                "`rediss://` needs TLS, which is not compiled in; build with `--features redis-tls`",
            );
        }
        if self.tls.is_some() && !self.url.tls {
            return wrong("tls", "`tls` is for a URL that begins with `rediss://`");
        }
        self.tls.as_ref().map_or(Ok(()), TlsConfig::check)?;
        if self.username.is_some() && self.password.is_none() {
            return wrong("username", "`username` needs a `password`");
        }
        if self.max_len == Some(0) {
            return wrong("max-len", "`max-len` is at least 1: a stream that keeps nothing delivers nothing");
        }
        if self.max_len.is_some() && self.max_age.is_some() {
            return wrong("max-age", "a stream is trimmed by `max-len` or by `max-age`, not by both");
        }
        Ok(())
    }
}

impl FromStr for RedisUrl {
    type Err = &'static str;

    // By hand, because the driver's own reader takes credentials, and its errors may show them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "expected redis://HOST:PORT/DB or rediss://HOST:PORT/DB";
        let (tls, rest) = match text.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(SHAPE),
        };
        if rest.contains('@') {
            return Err(
                "user and password do not belong into the URL: use `username` and `password = { env = \"NAME\" }`",
            );
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { "0" } else { database };
        let database =
            database.parse().ok().filter(|number| (0..=i64::from(i32::MAX)).contains(number)).ok_or(SHAPE)?;
        // An IPv6 address has brackets, because it has colons itself.
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some("6379"))),
            None => authority.split_once(':').map_or((authority, Some("6379")), |(h, p)| (h, Some(p))),
        };
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port > 0).ok_or(SHAPE)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(SHAPE);
        }
        Ok(Self { host: host.to_owned(), port, database, tls })
    }
}

impl FromStr for Confirm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let replicas = |count: &str| count.parse().ok().filter(|count| *count > 0).map(Self::Replicas);
        match text.strip_prefix("replicas:") {
            None if text == "reply" => Ok(Self::Reply),
            Some(count) => replicas(count).ok_or("`replicas:N` needs a number of 1 to 65535"),
            None => Err("expected \"reply\" or \"replicas:N\""),
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, tls } = self;
        let (scheme, bracket) = (if *tls { "rediss" } else { "redis" }, host.contains(':'));
        let (open, close) = if bracket { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{host}{close}:{port}/{database}")
    }
}

macro_rules! read_from_text {
    ($name:ident, $description:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                // The text is not repeated in the message: it may hold a password.
                Cow::<str>::deserialize(input)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                concat!("redis-", stringify!($name)).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description })
            }
        }
    };
}

read_from_text!(RedisUrl, "redis://HOST:PORT/DB or rediss://HOST:PORT/DB");
read_from_text!(Confirm, "reply, or replicas:N");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let url = |text: &str| text.parse::<RedisUrl>().map(|url| url.to_string());
        assert_eq!(url("redis://localhost"), Ok("redis://localhost:6379/0".into()));
        assert_eq!(url("redis://10.0.0.1:7000/3"), Ok("redis://10.0.0.1:7000/3".into()));
        assert_eq!(url("rediss://[::1]:7000"), Ok("rediss://[::1]:7000/0".into()));
        assert_eq!(url("redis://[::1]/"), Ok("redis://[::1]:6379/0".into()));
        for wrong in [
            "localhost:6379",
            "http://x",
            "redis://",
            "redis://h:0",
            "redis://h:x",
            "redis://h/x",
            "redis://h/-1",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
        let secret = url("redis://user:hunter2@localhost").unwrap_err();
        assert!(secret.contains("password = {") && !secret.contains("hunter2"), "{secret}");
    }

    #[test]
    fn confirmations_are_read() {
        assert_eq!("reply".parse(), Ok(Confirm::Reply));
        assert_eq!("replicas:2".parse(), Ok(Confirm::Replicas(2)));
        for wrong in ["replica", "replicas:0", "replicas:", "replicas:x"] {
            assert!(wrong.parse::<Confirm>().is_err(), "{wrong}");
        }
    }
}
