//! The admin listener: is it alive, is it ready, what are its figures.

mod answer;
mod connections;
mod listener;
mod status;

#[cfg(test)]
mod tests;

pub(crate) use listener::Admin;
pub(crate) use status::{JournalState, SinkStatus, SourceStatus, Status};
