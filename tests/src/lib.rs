//! What the tests and benchmarks of the whole bridge share.
//!
//! A crate of its own, so that the helpers compile once and no shipped crate depends on them. Its binaries are the
//! two ends of every throughput figure: `load`, which drives a server with signed events, and `floor`, a server that
//! does no more than any correct receiver must. Figures are ratios to the floor of the same run, because the machine
//! they are taken on is shared and its speed moves.

pub mod dice;
pub mod load;
