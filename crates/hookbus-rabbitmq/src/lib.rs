#![doc = include_str!("../README.md")]

mod attempt;
mod classify;
mod config;
mod connect;
mod deliver;
mod link;
mod message;
mod nodes;
mod plugin;
mod sink;
mod wire;
mod work;

pub use config::RabbitMqConfig;
pub use nodes::Nodes;
pub use plugin::RabbitMq;
