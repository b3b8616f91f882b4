#![doc = include_str!("../README.md")]

mod event;
mod scripted;

pub use event::{TestEvent, event};
pub use scripted::{Script, ScriptedSink};
