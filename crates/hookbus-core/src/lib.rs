#![doc = include_str!("../README.md")]

mod cloudevent;
pub mod config;
mod error;
mod event;
mod health;
mod json;
mod name;
pub mod record;
pub mod registry;
pub mod route;
pub mod secret;
pub mod sink;
mod tls;
pub mod units;
pub mod verify;

pub use error::{ErrorKind, RetryClass, SinkError};
pub use event::{EventId, EventTime, IdOrigin, VerifiedEvent};
pub use health::{Health, HealthState};
pub use name::nearest;
pub use record::RecordKey;
pub use registry::{SinkContext, SinkPlugin, SinkRegistry};
pub use route::Router;
pub use secret::{Secret, SecretRef};
pub use sink::{Address, Batch, Capabilities, Envelope, Outcome, Position, Probe, Report, Sink, sink_fn};
pub use tls::TlsConfig;
pub use verify::{Claim, HandshakeAnswer, Refusal, RequestHead, Scheme, Verifier};

/// The clock every deadline is measured on; it follows tokio's paused time in tests.
pub use tokio::time::Instant;
