//! What an event and a destination are known by.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    num::NonZeroU32,
};

use hookbus_core::{Address, IdOrigin, VerifiedEvent, record::RecordKey};
use zeroize::Zeroizing;

/// What an event is known by: a hash of its source, its type and its provider's id, under a key of this machine's own,
/// so that nobody can make two events that share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(pub(super) [u8; Identity::LEN]);

/// A hash of a sink's name and an address there.
pub type DestinationHash = NonZeroU32;

/// Makes identities and destination hashes.
#[derive(Clone)]
pub struct Identities {
    events: Zeroizing<[u8; 32]>,
    destinations: Zeroizing<[u8; 32]>,
}

impl Identity {
    pub(super) const LEN: usize = 12;

    /// An identity as it was written down.
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// All there is of it.
    pub fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// The first bytes as a number: identities are in the order of these.
    pub(super) fn leading(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// All other bytes.
    pub(super) fn rest(&self) -> u64 {
        let [_, _, _, _, rest @ ..] = self.0;
        u64::from_le_bytes(rest)
    }
}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.rest());
    }
}

/// An identity is a hash already.
pub(super) type AsItIs = BuildHasherDefault<Number>;

#[derive(Clone, Debug, Default)]
pub(super) struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only identities are hashed, as one number.
        debug_assert!(bytes.is_empty());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

impl Identities {
    /// Those of the journal with this key.
    pub fn new(key: &RecordKey) -> Self {
        Self {
            events: Zeroizing::new(key.derive("hookbus 2026 identities of events")),
            destinations: Zeroizing::new(key.derive("hookbus 2026 destinations of events")),
        }
    }

    /// What this event is known by. Nothing where its provider gave it no id, and where its body carries many events:
    /// the id then says nothing about the event.
    pub fn event(&self, event: &VerifiedEvent) -> Option<Identity> {
        if event.id().origin() != IdOrigin::Provider || event.carries_many() {
            return None;
        }
        let texts = [event.source(), event.event_type(), event.id().as_str()];
        Some(Identity(hash(&self.events, texts)))
    }

    /// What a destination is known by.
    pub fn destination(&self, sink: &str, address: &Address) -> DestinationHash {
        let parts = address.iter().flat_map(|(name, value)| [name, value]);
        let hash = hash(&self.destinations, std::iter::once(sink).chain(parts));
        NonZeroU32::new(u32::from_le_bytes(hash)).unwrap_or(NonZeroU32::MIN)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identities(..)")
    }
}

/// Each text with its length, so that no two lists of texts are hashed alike.
fn hash<'a, const N: usize>(key: &[u8; 32], texts: impl IntoIterator<Item = &'a str>) -> [u8; N] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let hash = hasher.finalize();
    std::array::from_fn(|at| hash.as_bytes()[at])
}
