//! From our configuration to librdkafka's properties.

use hookbus_core::{ErrorKind, SinkContext, SinkError};
use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError};

use crate::{Compression, KafkaConfig, Mechanism};

/// The largest batch, unless a topic takes less: the driver's own default.
pub(crate) const BATCH_BYTES: usize = 1_000_000;

/// Events in the driver's queue, unless the options say otherwise: the driver's own default.
const QUEUE: usize = 100_000;

/// How a producer makes its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batching {
    /// The largest batch, in bytes.
    pub(crate) bytes: usize,
    /// Each event in a batch of its own: a batch that is refused then names its culprit.
    pub(crate) alone: bool,
}

/// All properties of a producer but its credentials.
fn public(config: &KafkaConfig, batching: Batching) -> ClientConfig {
    let mut properties = ClientConfig::new();
    properties.log_level = RDKafkaLogLevel::Info;
    let mut set = |name: &str, value: &str| {
        properties.set(name, value);
    };
    set("bootstrap.servers", &config.brokers.join(","));
    set("client.id", "hookbus");
    // The Java client's partitioner, so that other producers of a topic agree on where a key belongs.
    set("partitioner", "murmur2_random");
    // The lane has gathered the batch already.
    set("linger.ms", "1");
    set("sticky.partitioning.linger.ms", "2");
    set("socket.nagle.disable", "true");
    set("log.connection.close", "false");
    // A broker that is back should be found soon: how often we ask is the lane's business.
    set("reconnect.backoff.max.ms", "1000");
    // A topic that is not there is asked about before anything is sent; one that goes away should be noticed soon.
    set("topic.metadata.propagation.max.ms", "1000");
    // The limit is the topic's own, which is asked for; this is only the greatest that can be set.
    set("message.max.bytes", "1000000000");
    for (name, value) in config.options.iter() {
        set(name, value);
    }
    let compression = match config.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
    };
    set("compression.type", compression);
    // One request at a time and broker. A broker that knows nothing of a producer takes any sequence number to begin
    // with (KAFKA-15591), so a second request may be taken after the first was refused; and librdkafka then reports the
    // first as delivered too. A request holds as many records as there are, so this costs little.
    set("max.in.flight", "1");
    // The promises: every replica in sync, each event once per producer, in order, until we say that it is enough.
    set("acks", "all");
    set("enable.idempotence", "true");
    set("enable.gapless.guarantee", "true");
    set("message.timeout.ms", "0");
    // The smaller one counts, the topic's or the user's.
    let own =
        config.options.iter().find(|(name, _)| *name == "batch.size").and_then(|(_, size)| size.parse().ok());
    set("batch.size", &own.unwrap_or(batching.bytes).min(batching.bytes).to_string());
    if batching.alone {
        set("batch.num.messages", "1");
    }
    let protocol = match (&config.tls, &config.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    set("security.protocol", protocol);
    if let Some(sasl) = &config.sasl {
        let mechanism = match sasl.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        set("sasl.mechanisms", mechanism);
        set("sasl.username", &sasl.username);
    }
    properties
}

/// How many events the driver's queue holds.
pub(crate) fn queue(config: &KafkaConfig) -> usize {
    let own = config.options.iter().find(|(name, _)| *name == "queue.buffering.max.messages");
    own.and_then(|(_, events)| events.parse().ok()).unwrap_or(QUEUE)
}

/// Whether librdkafka knows every property and takes its value. Pure: nothing is opened.
pub(crate) fn check(config: &KafkaConfig) -> Result<(), String> {
    let batching = Batching { bytes: BATCH_BYTES, alone: false };
    match public(config, batching).create_native_config() {
        Ok(_) => Ok(()),
        // Its description names the property and, where there are some, the values it takes.
        Err(KafkaError::ClientConfig(_, description, name, _)) if description.contains(&name) => {
            Err(description)
        }
        Err(KafkaError::ClientConfig(_, description, name, _)) => Err(format!("`{name}`: {description}")),
        Err(other) => Err(other.to_string()),
    }
}

/// All properties of a producer, its credentials read now.
pub(crate) fn complete(
    config: &KafkaConfig,
    context: &SinkContext,
    batching: Batching,
) -> Result<ClientConfig, SinkError> {
    let mut properties = public(config, batching);
    let text = |secret: &hookbus_core::Secret| {
        String::from_utf8(secret.expose().to_vec())
            .map_err(|_| SinkError::new(ErrorKind::Auth, "connect", "a credential is no UTF-8 text"))
    };
    if let Some(sasl) = &config.sasl {
        properties.set("sasl.password", text(&context.secret(&sasl.password)?)?);
    }
    if let Some(tls) = &config.tls {
        for (name, path) in [("ssl.ca.location", &tls.ca), ("ssl.certificate.location", &tls.cert)] {
            if let Some(path) = path {
                properties.set(name, context.base.join(path).to_string_lossy());
            }
        }
        if let Some(key) = &tls.key {
            properties.set("ssl.key.pem", text(&context.secret(key)?)?);
        }
    }
    Ok(properties)
}
