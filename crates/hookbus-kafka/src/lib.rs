#![doc = include_str!("../README.md")]

mod call;
mod classify;
mod config;
mod context;
mod message;
mod options;
mod plugin;
mod producer;
mod sending;
mod settings;
mod sink;
mod topics;

pub use config::{Compression, KafkaConfig, Mechanism, SaslConfig};
pub use options::Options;
pub use plugin::Kafka;
