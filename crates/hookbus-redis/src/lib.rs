#![doc = include_str!("../README.md")]

mod classify;
mod config;
mod inspect;
mod link;
mod message;
mod pipeline;
mod plugin;
mod sink;

pub use config::{Confirm, RedisConfig, RedisUrl};
pub use plugin::Redis;
