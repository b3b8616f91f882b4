#![doc = include_str!("../README.md")]

mod accept;
mod admin;
mod append;
mod bridge;
mod builder;
mod cli;
pub mod config;
mod control;
mod dead_letters;
mod diagnosis;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod ingress;
mod journal;
mod lane;
mod metrics;
mod rejected;
mod retire;
pub mod sinks;
mod watch;

pub use bridge::{Applied, Bridge, Reload, ReloadError, Start, StartError, Summary};
pub use builder::{Builder, Hookbus, RunError};
pub use config::{Config, ConfigText};
pub use hookbus_core as core;
pub use ingress::tls::{TlsError, TlsFile};
