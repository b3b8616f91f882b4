#![doc = include_str!("../README.md")]

pub mod cases;
mod connect;
mod event;
mod fault;
mod fixture;
mod observed;
mod race;
mod scripted;
mod stand;
pub mod suite;

pub use async_trait::async_trait;
pub use connect::{address, connect};
pub use event::{TestEvent, event};
pub use fault::{Direction, Fault, FaultProxy};
pub use fixture::{Fixture, Harvest, Skip};
pub use observed::Observed;
pub use race::{Finish, Race, distinct, drive};
pub use scripted::{Script, ScriptedSink};
