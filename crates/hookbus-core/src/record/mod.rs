//! Records: how an event outlives the process that verified it.
//!
//! A record is a piece of a file that proves by a keyed tag that it was written here, for the place it stands in. The
//! tag is the reason why [`VerifiedEvent::restore`](crate::VerifiedEvent::restore) may make an event without its
//! request: event records are only ever sealed from events that were verified.

mod event;
mod key;

pub use event::NotRestored;
pub use key::{BadKey, RecordKey, TooLarge};

use thiserror::Error;

/// Bytes before the content of a record.
pub const HEAD: usize = 40;
/// Bytes of the tag behind the content.
pub const TAG: usize = 16;
/// Every record begins at a multiple of this; what is between is zero.
pub const ALIGN: usize = 8;
/// The largest content of a record.
pub const MAX_CONTENT: usize = 256 << 20;
/// The first bytes of every record.
pub const MARK: [u8; 4] = *b"hkbR";

/// Kinds at and above this one hold an event.
const WITH_EVENT: u8 = 0x80;

/// What a record is, for whoever writes it. Events and notes never share a kind: a note cannot pass for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(u8);

impl Kind {
    /// A kind of records that hold an event and something about it; of `number` the lower seven bits count.
    pub const fn event(number: u8) -> Self {
        Self(number | WITH_EVENT)
    }

    /// A kind of records that hold no event; of `number` the lower seven bits count.
    pub const fn note(number: u8) -> Self {
        Self(number & !WITH_EVENT)
    }

    /// Whether such records hold an event.
    pub const fn holds_event(self) -> bool {
        self.0 & WITH_EVENT != 0
    }

    /// The byte that stands in the record.
    pub const fn as_byte(self) -> u8 {
        self.0
    }
}

/// The place a record is written for. It is part of what the tag proves, so that a record that was moved or that an
/// earlier use of its file left behind is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which use of its file it belongs to.
    pub generation: u64,
    /// Its number in the order of all records.
    pub sequence: u64,
    /// Every record before this number was known to be safe on disk when this one was written.
    pub durable: u64,
}

/// What stands before the content of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// The place it was written for.
    pub place: Place,
    /// Bytes of its content.
    pub length: u32,
}

impl Head {
    /// Reads a head. It proves nothing: only [`RecordKey::prove`] does.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEAD>()?;
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let eight = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let head = Self {
            kind: Kind(bytes[32]),
            place: Place { generation: eight(8), sequence: eight(16), durable: eight(24) },
            length: u32::from_le_bytes(four(4)),
        };
        (four(0) == MARK && head.length as usize <= MAX_CONTENT && bytes[33..] == [0; 7]).then_some(head)
    }

    fn write(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&MARK);
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.place.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.place.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.place.durable.to_le_bytes());
        bytes[32] = self.kind.0;
        bytes
    }

    /// Bytes of the whole record, up to where the next one may begin.
    pub fn record_len(&self) -> usize {
        (HEAD + self.length as usize + TAG).next_multiple_of(ALIGN)
    }
}

/// A record whose tag was right: it was written by the holder of the key, and nobody has changed it since.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    head: Head,
    content: &'a [u8],
    /// Where the event begins, where it holds one.
    event: usize,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoRecord {
    /// There is no head of a record.
    #[error("there is no record here")]
    NoHead,
    /// The head is that of a record, which would end behind the bytes that are there.
    #[error("the record is cut off")]
    CutOff,
    /// The tag does not fit: the bytes were changed, or another key wrote them.
    #[error("the tag of the record does not fit")]
    BadTag,
}

impl<'a> Record<'a> {
    /// What it is and where it belongs.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What was written beside the event; of a note, all of it.
    pub fn about(&self) -> &'a [u8] {
        match self.head.kind.holds_event() {
            true => &self.content[4..self.event],
            false => self.content,
        }
    }

    fn event(&self) -> &'a [u8] {
        &self.content[self.event..]
    }
}

impl std::fmt::Debug for Record<'_> {
    // Not its content: payloads stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("head", &self.head).finish_non_exhaustive()
    }
}
