//! `[admin]`: the listener for readiness and metrics.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::server::address;

/// The admin listener. Without this section there is none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "admin")]
pub struct Admin {
    /// Address and port for `/livez`, `/readyz` and `/metrics`. Default: `127.0.0.1:8081`.
    #[schemars(with = "String")]
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 8081).into() }
    }
}

impl Admin {
    /// Whether it cannot listen where the main listener does. A port that the system chooses is always another one.
    pub(super) fn collides_with(&self, server: SocketAddr) -> bool {
        let (mine, other) = (self.listen, server);
        let same_host = mine.ip() == other.ip() || mine.ip().is_unspecified() || other.ip().is_unspecified();
        same_host && mine.port() == other.port() && mine.port() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_is_one_listener() {
        let collide = |admin: &str, server: &str| {
            Admin { listen: admin.parse().unwrap() }.collides_with(server.parse().unwrap())
        };
        assert!(collide("127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(collide("127.0.0.1:8080", "0.0.0.0:8080"));
        assert!(collide("[::]:8080", "127.0.0.1:8080"));
        assert!(!collide("127.0.0.1:8081", "127.0.0.1:8080"));
        assert!(!collide("127.0.0.2:8080", "127.0.0.1:8080"));
        assert!(!collide("127.0.0.1:0", "127.0.0.1:0"));
    }
}
