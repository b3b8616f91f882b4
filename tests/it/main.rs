//! The stock binary from outside: real processes, real sockets, real files.
//!
//! What these tests know of the bridge is its outside contract: the configuration, HTTP, signals, exit codes
//! and the lines of the `file` sink. They build requests and read answers and lines with code of their own,
//! so that a mistake in ours cannot cancel itself out. Only signatures come from the core, which is held
//! against recorded ones.

#![allow(clippy::unwrap_used, reason = "in a test a failed step is a failed test")]

mod admin;
mod buses;
mod clients;
mod corpus;
mod dead_letters;
mod faults;
mod flood;
mod h2spec;
mod handshakes;
mod hostile;
mod http2;
mod ingress;
mod load;
mod outward;
mod proxy;
mod rates;
mod rejected;
mod reload;
mod restart;
mod shutdown;
mod support;
mod tls;
mod tls_matrix;
