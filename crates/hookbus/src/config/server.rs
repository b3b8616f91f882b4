//! `[server]`: the listener, its limits and its deadlines.

use std::{borrow::Cow, net::SocketAddr, path::PathBuf};

use hookbus_core::{
    config::{Problem, Table},
    units::{ByteSize, Duration},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Network, RateLimit};

/// The listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "server")]
pub struct Server {
    /// Address and port for `POST /hooks/{source}`. Default: `127.0.0.1:8080`.
    #[schemars(with = "String")]
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Certificate and key, where it takes HTTPS. Default: none, it takes HTTP.
    pub tls: Option<ServerTls>,
    /// Proxies in front of the bridge, by network or address: only they are believed when they say whose requests they
    /// pass on. Default: none.
    pub trusted_proxies: Vec<Network>,
    /// Which of its headers says so. Default: whichever a request has; where it has both and they differ, neither is
    /// believed.
    pub forwarding_header: Option<ForwardingHeader>,
    /// Whether each connection of a trusted proxy begins with a PROXY header, version 1 or 2. Default: false.
    pub proxy_protocol: bool,
    /// What one client or all together may take.
    pub limits: Limits,
    /// How long each step may take.
    pub timeouts: Timeouts,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8080).into(),
            tls: None,
            trusted_proxies: Vec::new(),
            forwarding_header: None,
            proxy_protocol: false,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// The files of a certificate and its key, as PEM. They are read again when they change. Relative to the
/// configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "server-tls")]
pub struct ServerTls {
    /// The certificate, followed by those it was signed with.
    pub cert: PathBuf,
    /// The certificate's key, not encrypted.
    pub key: PathBuf,
}

impl Server {
    /// Keys that say nothing without another one.
    pub(super) fn problems(&self, table: &Table<'_>) -> Vec<Problem> {
        if table.has("trusted-proxies") {
            return Vec::new();
        }
        let idle = ["forwarding-header", "proxy-protocol"].into_iter().filter(|key| table.has(key));
        let problem = |key| {
            let problem = table.problem_at(key, format!("`{key}` needs `trusted-proxies`: who is believed"));
            problem.help("trusted-proxies = [\"10.0.0.0/8\"]")
        };
        idle.map(problem).collect()
    }
}

/// The header by which a proxy says whose request it passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "forwarding-header")]
pub enum ForwardingHeader {
    /// `Forwarded`, of RFC 7239.
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
}

pub(super) fn address<'de, D: Deserializer<'de>>(input: D) -> Result<SocketAddr, D::Error> {
    let text = Cow::<str>::deserialize(input)?;
    let example = "\"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::1]:8080\"";
    let no_address =
        |_| D::Error::custom(format!("`{text}` is not an IP address and a port, such as {example}"));
    text.parse().map_err(no_address)
}

/// Limits of the listener; at a limit the answer is 413, 429, 431 or 503 with `Retry-After`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "limits")]
pub struct Limits {
    /// Largest body. Default: `1MiB`.
    pub body: ByteSize,
    /// Largest head (request line and headers), 8KiB to 256KiB. Default: `16KiB`.
    pub headers: ByteSize,
    /// All bodies being read or delivered together; one source may use a quarter. Default: `64MiB`.
    pub in_flight: ByteSize,
    /// Requests being worked on at once. Default: 1024.
    pub requests: Count,
    /// Open connections; at the limit the longest idle one is closed. Default: 1024.
    pub connections: Count,
    /// Open connections of one address. Default: half of `connections`.
    pub connections_per_address: Option<Count>,
    /// Requests in progress on one HTTP/2 connection, 1 to 1000. Default: 64.
    pub streams: Count,
    /// Requests answered 4xx that one address may send; beyond that 429, before its bodies are read. An address that
    /// has sent an authentic request within a day is not limited. Default: `1000/m`.
    pub refused_per_address: RateLimit,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: ByteSize::from_bytes(1 << 20),
            headers: ByteSize::from_bytes(16 << 10),
            in_flight: ByteSize::from_bytes(64 << 20),
            requests: Count(1024),
            connections: Count(1024),
            connections_per_address: None,
            streams: Count(64),
            refused_per_address: RateLimit::per_minute(1000),
        }
    }
}

impl Limits {
    /// The connections one address may hold.
    pub fn per_address(&self) -> usize {
        self.connections_per_address.map_or(self.connections.0.div_ceil(2), |count| count.0)
    }
}

/// A number of things, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "usize")]
pub struct Count(#[schemars(range(min = 1))] pub usize);

impl TryFrom<usize> for Count {
    type Error = &'static str;

    fn try_from(count: usize) -> Result<Self, &'static str> {
        if count == 0 { Err("zero is not allowed here") } else { Ok(Self(count)) }
    }
}

/// Deadlines of the listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "timeouts")]
pub struct Timeouts {
    /// From the connection to the end of the TLS handshake. Default: `10s`.
    pub handshake: Duration,
    /// From the connection, or the end of its TLS handshake, to its first byte. Default: `10s`.
    pub first_byte: Duration,
    /// From the first byte of a request to the end of its headers. Default: `10s`.
    pub headers: Duration,
    /// From the end of the headers to the end of the body. Default: `20s`.
    pub body: Duration,
    /// Between two requests of one connection. Default: `60s`.
    pub idle: Duration,
    /// For requests in progress when asked to stop. Default: `10s`.
    pub grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            body: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }
}
