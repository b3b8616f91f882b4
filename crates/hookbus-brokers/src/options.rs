//! How a broker is to be.

use std::net::SocketAddr;

/// How a broker is to be; the default is as plain as it can be.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Lines of `redis.conf`, `rabbitmq.conf` or `server.properties`. A key replaces the default lines with that key.
    pub settings: Vec<(String, String)>,
    /// Which ways in there are.
    pub security: Security,
    /// Redis only: the server this one is a replica of.
    pub replica_of: Option<SocketAddr>,
}

/// Which ways in there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// [`Access::Plain`](crate::Access::Plain) alone.
    #[default]
    Plain,
    /// All the broker has, with certificates made for it.
    Secured,
}

impl Options {
    /// With all ways in.
    pub fn secured() -> Self {
        Self { security: Security::Secured, ..Self::default() }
    }

    /// With one more setting; a key may be set more than once.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// As a replica of another Redis.
    #[must_use]
    pub fn replica_of(mut self, address: SocketAddr) -> Self {
        self.replica_of = Some(address);
        self
    }

    pub(crate) fn is_secured(&self) -> bool {
        self.security == Security::Secured
    }

    /// The lines of a configuration file, with what stands between key and value.
    pub(crate) fn lines(&self, defaults: &[(String, String)], between: &str) -> String {
        let replaced = |key: &str| self.settings.iter().any(|(set, _)| set == key);
        let kept = defaults.iter().filter(|(key, _)| !replaced(key));
        kept.chain(&self.settings).map(|(key, value)| format!("{key}{between}{value}\n")).collect()
    }
}

/// A default setting.
#[expect(clippy::needless_pass_by_value, reason = "values are made where they are named")]
pub(crate) fn setting(key: impl Into<String>, value: impl ToString) -> (String, String) {
    (key.into(), value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_replaces_all_defaults_of_its_key() {
        let defaults = [setting("user", "a"), setting("user", "b"), setting("port", 1)];
        assert_eq!(Options::default().lines(&defaults, " "), "user a\nuser b\nport 1\n");
        let options = Options::default().set("user", "c").set("user", "d");
        assert_eq!(options.lines(&defaults, " = "), "port = 1\nuser = c\nuser = d\n");
    }
}
