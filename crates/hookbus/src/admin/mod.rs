//! The admin listener: is it alive, is it ready, what are its figures.

mod answer;
mod connections;
mod listener;
mod reloads;
mod status;

#[cfg(test)]
mod tests;

pub(crate) use listener::Admin;
pub(crate) use reloads::Reloads;
pub(crate) use status::{Certificate, Configured, JournalState, SinkStatus, SourceStatus, Status};
