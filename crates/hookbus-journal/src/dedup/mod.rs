//! Placeholder.
/// Placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity(pub(crate) [u8; 16]);
