#![doc = include_str!("../README.md")]

mod broker;
mod certificates;
mod contact;
mod door;
mod error;
mod family;
mod folders;
mod install;
mod jars;
mod kafka;
mod kind;
mod lookup;
mod metadata;
mod options;
mod ports;
mod process;
mod rabbitmq;
mod redis;
mod resp;
mod variables;

pub mod background;

pub use crate::{
    broker::Broker,
    certificates::Certificates,
    contact::{Contact, Endpoint},
    door::{ClaimedDoor, Door},
    error::{Error, Result},
    install::{Need, install, is_installed, provide},
    kind::{Access, Kind},
    lookup::{private, running, shared},
    options::{Options, Security},
    ports::free as free_address,
};

/// The user of secured brokers: Redis' ACL user, and Kafka's.
pub const USER: &str = "hookbus";

/// The password of [`USER`].
pub const PASSWORD: &str = "hookbus-secret";
