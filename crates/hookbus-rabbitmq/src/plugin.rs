//! The plugin: how a configuration becomes a sink.

use hookbus_core::{
    SecretRef, Sink, SinkContext, SinkError, SinkPlugin, registry::Invalid, sink::AddressKey,
};

use crate::{RabbitMqConfig, sink::RabbitMqSink};

/// The plugin of type `rabbitmq`.
#[derive(Debug)]
pub struct RabbitMq;

impl SinkPlugin for RabbitMq {
    const TYPE: &'static str = "rabbitmq";
    const ADDRESS: &'static [AddressKey] = &[
        AddressKey::optional("exchange").checked(is_short),
        AddressKey::required("routing-key").checked(is_short),
    ];
    type Config = RabbitMqConfig;

    fn validate(config: &RabbitMqConfig) -> Result<(), Invalid> {
        config.check()
    }

    fn credentials(config: &RabbitMqConfig) -> Vec<&SecretRef> {
        config.password.iter().chain(config.tls.iter().filter_map(|tls| tls.key.as_ref())).collect()
    }

    // Nothing is connected here: a broker that is down is no reason not to start. The lane finds out and waits.
    async fn connect(config: RabbitMqConfig, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(RabbitMqSink::new(config, context)))
    }
}

/// Names travel as AMQP's short strings.
fn is_short(value: &str) -> Result<(), String> {
    match value.len() {
        0..=255 => Ok(()),
        length => Err(format!("is {length} bytes long, more than the 255 that AMQP has room for")),
    }
}
