//! The plugin: how a configuration becomes a sink.

use hookbus_core::{
    SecretRef, Sink, SinkContext, SinkError, SinkPlugin, registry::Invalid, sink::AddressKey,
};

use crate::{RedisConfig, link::Link, sink::RedisSink};

/// The plugin of type `redis`.
#[derive(Debug)]
pub struct Redis;

impl SinkPlugin for Redis {
    const TYPE: &'static str = "redis";
    const ADDRESS: &'static [AddressKey] = &[AddressKey::required("stream")];
    type Config = RedisConfig;

    fn validate(config: &RedisConfig) -> Result<(), Invalid> {
        config.check()
    }

    fn credentials(config: &RedisConfig) -> Vec<&SecretRef> {
        config.password.iter().chain(config.tls.iter().filter_map(|tls| tls.key.as_ref())).collect()
    }

    // Nothing is connected here: a server that is down is no reason not to start. The lane finds out and waits.
    async fn connect(config: RedisConfig, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(RedisSink::new(Link::new(config, context))))
    }
}
