//! The plugin: how a configuration becomes a sink.

use hookbus_core::{
    SecretRef, Sink, SinkContext, SinkError, SinkPlugin, registry::Invalid, sink::AddressKey,
};

use crate::{KafkaConfig, sink::KafkaSink};

/// The plugin of type `kafka`.
#[derive(Debug)]
pub struct Kafka;

impl SinkPlugin for Kafka {
    const TYPE: &'static str = "kafka";
    const ADDRESS: &'static [AddressKey] = &[
        AddressKey::required("topic").checked(check_topic),
        AddressKey::optional("key").or("{subject}").ordering(),
    ];
    type Config = KafkaConfig;

    fn validate(config: &KafkaConfig) -> Result<(), Invalid> {
        config.check()
    }

    fn credentials(config: &KafkaConfig) -> Vec<&SecretRef> {
        let key = config.tls.as_ref().and_then(|tls| tls.key.as_ref());
        config.sasl.iter().map(|sasl| &sasl.password).chain(key).collect()
    }

    // Nothing is connected here: brokers that are down are no reason not to start. The lane finds out and waits.
    async fn connect(config: KafkaConfig, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(KafkaSink::new(config, context)))
    }
}

/// The names Kafka allows.
fn check_topic(topic: &str) -> Result<(), String> {
    if topic.len() > 249 {
        return Err("is longer than 249 characters".into());
    }
    if matches!(topic, "." | "..") || !topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    {
        return Err("has characters that a topic must not have: use a-z, A-Z, 0-9, `.`, `_` and `-`".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_as_kafka_allows() {
        for good in ["media", "a.b_c-D9", &"x".repeat(249)] {
            assert!(check_topic(good).is_ok(), "{good}");
        }
        for bad in [".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            assert!(check_topic(bad).is_err(), "{bad}");
        }
    }
}
