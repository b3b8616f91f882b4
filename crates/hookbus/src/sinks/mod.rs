//! The sinks that come with hookbus. This is the one place that lists them.

mod closed;
mod file;
mod memory;
mod single;
mod stdout;

use hookbus_core::{SinkRegistry, registry::RegistryError};

pub use file::{File, FileConfig};
pub use memory::{Memory, MemoryConfig, MemorySink};
pub use stdout::{Stdout, StdoutConfig};

/// Registers every first-party sink that is compiled in.
///
/// # Errors
/// [`RegistryError::Duplicate`] where a name is taken already.
pub fn register_builtin(registry: &mut SinkRegistry) -> Result<(), RegistryError> {
    registry.register_plugin::<File>()?;
    registry.register_plugin::<Memory>()?;
    registry.register_plugin::<Stdout>()?;
    // A bus has one name: its type, its feature and the suffix of its crate.
    macro_rules! buses {
        ($($name:literal => $plugin:path),+ $(,)?) => {$(
            #[cfg(feature = $name)]
            registry.register_plugin::<$plugin>()?;
            #[cfg(not(feature = $name))]
            registry.note_absent($name, $name);
        )+};
    }
    buses! {
        "kafka" => hookbus_kafka::Kafka,
        "rabbitmq" => hookbus_rabbitmq::RabbitMq,
        "redis" => hookbus_redis::Redis,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_template_reads() {
        let mut registry = SinkRegistry::new();
        register_builtin(&mut registry).unwrap();
        for key in registry.iter().flat_map(|sink_type| sink_type.address()) {
            assert!(
                key.default().is_none_or(|text| text.parse::<hookbus_core::route::Template>().is_ok()),
                "{key:?}"
            );
        }
        assert!(register_builtin(&mut registry).is_err());
    }
}
