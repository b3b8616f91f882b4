//! The conformance cases. Each is a function over a [`Fixture`](crate::Fixture) that panics where the sink does not
//! keep to its contract, and returns why where it cannot be tried.

#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc, reason = "said once, for all cases, above")]

pub mod config;
pub mod fault;
pub mod hygiene;
pub mod lifecycle;
pub mod order;
pub mod outcome;
pub mod pressure;
pub mod publish;
