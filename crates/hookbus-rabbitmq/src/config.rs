//! `[sinks.NAME]` of type `rabbitmq`.

use hookbus_core::{
    SecretRef, TlsConfig,
    registry::Invalid,
    units::{ByteSize, Duration},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Nodes;

/// Configuration of a `rabbitmq` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "rabbitmq")]
pub struct RabbitMqConfig {
    /// The broker and its virtual host: `amqp://HOST:PORT/VHOST`, or `amqps://` for TLS; or a list of such, the nodes
    /// of one cluster, tried in turn beginning with the one that was good last. Default port 5672, with TLS 5671;
    /// default virtual host `/`.
    pub url: Nodes,
    /// The user to log in as. Default: `guest`, whom a broker lets in from its own machine only.
    #[serde(default)]
    pub username: Option<String>,
    /// Where the user's password is. Read at each connect. Default: `guest`, where no user is named either.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// What TLS needs beyond an `amqps://` URL and the system's certificates.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// A larger body is rejected and not sent. Not more than the broker's own `max_message_size`. Default: `16MiB`,
    /// which is RabbitMQ's since version 4.
    #[serde(default = "default_max_message_size")]
    pub max_message_size: ByteSize,
    /// The connection is given up after twice this time without a sign of life, in whole seconds. Default: `10s`.
    #[serde(default = "default_heartbeat")]
    pub heartbeat: Duration,
}

fn default_max_message_size() -> ByteSize {
    ByteSize::from_bytes(16 << 20)
}

fn default_heartbeat() -> Duration {
    Duration::from_secs(10)
}

impl RabbitMqConfig {
    /// What types cannot say.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let wrong = |key, message: &str| Err(Invalid { key, message: message.into() });
        if self.url.tls() && !cfg!(feature = "tls") {
            return wrong(
                "url",
                "`amqps://` needs TLS, which is not compiled in; build with `--features rabbitmq-tls`",
            );
        }
        if self.tls.is_some() && !self.url.tls() {
            return wrong("tls", "`tls` is for a URL that begins with `amqps://`");
        }
        self.tls.as_ref().map_or(Ok(()), TlsConfig::check)?;
        if self.username.is_some() && self.password.is_none() {
            return wrong("username", "`username` needs a `password`");
        }
        if self.username.as_ref().is_some_and(|user| user.is_empty() || user.contains('\0')) {
            return wrong("username", "`username` is empty, or contains a NUL");
        }
        let heartbeat = self.heartbeat.get();
        if heartbeat.subsec_millis() != 0 || u16::try_from(heartbeat.as_secs()).is_err() {
            return wrong("heartbeat", "`heartbeat` is a whole number of seconds, at most 65535");
        }
        Ok(())
    }

    /// The user to log in as.
    pub(crate) fn user(&self) -> &str {
        self.username.as_deref().unwrap_or("guest")
    }

    /// The heartbeat as AMQP has it.
    pub(crate) fn heartbeat_seconds(&self) -> u16 {
        u16::try_from(self.heartbeat.get().as_secs()).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RabbitMqConfig, String> {
        let config: RabbitMqConfig = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        config.check().map(|()| config).map_err(|invalid| format!("{}: {}", invalid.key, invalid.message))
    }

    #[test]
    fn only_the_url_is_needed() {
        let config = read("url = 'amqp://localhost'").unwrap();
        assert_eq!((config.user(), config.heartbeat_seconds()), ("guest", 10));
        assert_eq!(config.max_message_size.get(), 16 << 20);
        let config = read("url = ['amqp://a/v', 'amqp://b/v']\npassword = { env = 'PASSWORD' }").unwrap();
        assert_eq!(config.user(), "guest", "with a password of its own");
        assert!(read("").unwrap_err().contains("url"));
    }

    #[test]
    fn mistakes_are_told_by_their_key() {
        let error = |more: &str| read(&format!("url = 'amqp://localhost'\n{more}")).unwrap_err();
        assert!(error("username = 'hookbus'").starts_with("username: `username` needs a `password`"));
        assert!(error("username = ''\npassword = { env = 'P' }").starts_with("username: "));
        assert!(error("tls = {}").starts_with("tls: `tls` is for a URL that begins with `amqps://`"));
        assert!(error("heartbeat = '1500ms'").starts_with("heartbeat: "));
        assert!(error("heartbeat = '1d'").starts_with("heartbeat: "));
        assert!(error("heart-beat = '1s'").contains("unknown field"));
        assert!(error("password = 'hunter2'").contains("a secret does not belong into this file"));
        assert!(read("url = []").unwrap_err().contains("at least one"));
        assert!(read("url = 3").unwrap_err().contains("a URL or a list of URLs"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn certificate_and_key_go_together() {
        let with = |tls: &str| read(&format!("url = 'amqps://localhost'\ntls = {tls}"));
        assert!(with("{}").is_ok() && with("{ ca = 'ca.pem' }").is_ok());
        assert!(with("{ cert = 'c.pem', key = { file = 'k.pem' } }").is_ok());
        assert!(with("{ cert = 'c.pem' }").unwrap_err().contains("go together"));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_names_the_feature_that_has_it() {
        let error = read("url = 'amqps://localhost'").unwrap_err();
        assert!(error.starts_with("url: ") && error.contains("--features rabbitmq-tls"), "{error}");
    }

    #[test]
    fn a_password_in_the_url_is_never_shown() {
        for url in ["'amqp://guest:hunter2@h'", "['amqp://h', 'amqp://guest:hunter2@h']"] {
            let error = read(&format!("url = {url}")).unwrap_err();
            assert!(error.contains("`username`") && error.contains("password = {"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        // What is read has no place for one, and references show where a secret is.
        let shown = format!("{:?}", read("url = 'amqp://h'\npassword = { env = 'PASSWORD' }").unwrap());
        assert!(shown.contains("PASSWORD"), "{shown}");
    }
}
