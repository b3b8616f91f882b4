//! `[sinks.NAME]` of type `kafka`.

use hookbus_core::{SecretRef, TlsConfig, registry::Invalid};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Options, settings};

/// Configuration of a `kafka` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "kafka")]
pub struct KafkaConfig {
    /// Some brokers of the cluster, as `HOST:PORT`; the others are found through them.
    #[schemars(length(min = 1))]
    pub brokers: Vec<String>,
    /// TLS, where it is given; `{}` trusts the system's certificates.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// The login, where the brokers ask for one.
    #[serde(default)]
    pub sasl: Option<SaslConfig>,
    /// How batches are compressed. Default: `none`.
    #[serde(default)]
    pub compression: Compression,
    /// Any other property of librdkafka, such as `linger.ms`, but those that would break a promise.
    #[serde(default)]
    pub options: Options,
}

/// A login.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "kafka-sasl")]
pub struct SaslConfig {
    /// How to log in.
    pub mechanism: Mechanism,
    /// The user.
    pub username: String,
    /// Where the user's password is. Read each time the producer is made.
    pub password: SecretRef,
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "kafka-mechanism")]
pub enum Mechanism {
    /// The password itself is sent: for TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// The password is proved with SHA-256 (RFC 7677).
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The password is proved with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "kafka-compression")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip: small and slow.
    Gzip,
    /// Snappy: fast.
    Snappy,
    /// LZ4: fast.
    Lz4,
}

impl KafkaConfig {
    /// What types cannot say.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let wrong = |key, message: String| Err(Invalid { key, message });
        if self.brokers.is_empty() {
            return wrong("brokers", "`brokers` names one broker or more".into());
        }
        if let Some(broker) = self.brokers.iter().find(|broker| !is_broker(broker)) {
            // Whatever looks like a login is not repeated.
            let shown = if broker.contains('@') { "this" } else { broker.as_str() };
            return wrong("brokers", format!("{shown} is no broker: expected HOST:PORT"));
        }
        if self.tls.is_some() && !cfg!(feature = "tls") {
            return wrong("tls", "TLS is not compiled in; build with `--features kafka-tls`".into());
        }
        self.tls.as_ref().map_or(Ok(()), TlsConfig::check)?;
        if let Some(sasl) = &self.sasl {
            if sasl.mechanism != Mechanism::Plain && !cfg!(feature = "tls") {
                let message = "SCRAM is not compiled in; build with `--features kafka-tls`";
                return wrong("sasl", message.into());
            }
            if sasl.username.is_empty() {
                return wrong("sasl", "`sasl.username` is empty".into());
            }
        }
        self.options.check().map_err(|message| Invalid { key: "options", message })?;
        settings::check(self).map_err(|message| Invalid { key: "options", message })
    }
}

fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    !host.is_empty() && host.bytes().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(more: &str) -> Result<(), String> {
        let config: KafkaConfig = toml::from_str(&format!("brokers = [\"h:9092\"]\n{more}")).unwrap();
        config.check().map_err(|invalid| format!("{}: {}", invalid.key, invalid.message))
    }

    #[test]
    fn brokers_have_a_host_and_a_port() {
        for good in ["h:9092", "10.0.0.1:1", "[::1]:9092", "kafka-0.kafka.svc:9092"] {
            assert!(is_broker(good), "{good}");
        }
        for bad in ["h", "h:", ":9092", "h:0", "h:99999", "PLAINTEXT://h:9092", "u:p@h:9092"] {
            assert!(!is_broker(bad), "{bad}");
        }
    }

    #[test]
    fn promises_are_kept_whatever_the_options_say() {
        assert_eq!(check("options = { \"linger.ms\" = 20, \"socket.keepalive.enable\" = true }"), Ok(()));
        for (option, says) in [
            ("\"acks\" = 1", "every replica"),
            ("\"request.required.acks\" = \"0\"", "every replica"),
            ("\"enable.idempotence\" = false", "order"),
            ("\"message.timeout.ms\" = 1000", "publish-timeout"),
            ("\"delivery.report.only.error\" = true", "confirmation"),
            ("\"sasl.password\" = \"hunter2\"", "`sasl`"),
            ("\"bootstrap.servers\" = \"x:1\"", "`brokers`"),
            ("\"compression.codec\" = \"lz4\"", "`compression`"),
            ("\"partitioner\" = \"random\"", "order"),
            ("\"linger.mss\" = 1", "linger.mss"),
            ("\"linger.ms\" = \"soon\"", "linger.ms"),
            ("\"max.in.flight\" = 50", "order"),
        ] {
            let said = check(&format!("options = {{ {option} }}")).unwrap_err();
            assert!(said.starts_with("options: ") && said.contains(says), "{option}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn halves_are_refused() {
        let tls = check("tls = { cert = \"c.pem\" }").unwrap_err();
        assert!(tls.starts_with("tls: "), "{tls}");
        let sasl = "sasl = { mechanism = \"PLAIN\", username = \"\", password = { env = \"X\" } }";
        assert!(check(sasl).unwrap_err().contains("empty"));
    }
}
