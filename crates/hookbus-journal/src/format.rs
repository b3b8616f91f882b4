//! What the records of the journal say: the content beside the event. Changing it changes the format.

use hookbus_core::{Address, record::Kind};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::address_note::AddressNote;

/// The version of the format that is written. A newer one is refused, an older one would be read.
pub(crate) const VERSION: u32 = 1;

/// An accepted event with its destinations.
pub(crate) const EVENT: Kind = Kind::event(0);
/// A copy of an accepted event, for those who still had to get it when its segment had to go.
pub(crate) const CARRIED: Kind = Kind::event(1);
/// The first record of a segment's first page.
pub(crate) const HEADER: Kind = Kind::note(1);
/// The second record of a segment's first page, once nothing more is appended to it.
pub(crate) const FOOTER: Kind = Kind::note(2);
/// The beginning of a checkpoint: so many full cursors follow.
pub(crate) const CHECKPOINT: Kind = Kind::note(3);
/// What changed of a cursor, or all of it.
pub(crate) const CURSOR: Kind = Kind::note(4);

/// A place in the journal. Places are in the order of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Location {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// See [`HEADER`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Seconds since 1970 when the segment was begun.
    pub(crate) begun: u64,
    /// Bytes that records may take, from the beginning of the file on.
    pub(crate) capacity: u64,
}

/// See [`FOOTER`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Footer {
    /// Where its last record ends.
    pub(crate) end: u64,
    /// The number of its last record.
    pub(crate) last_sequence: u64,
    /// How many events were accepted in it.
    pub(crate) events: u64,
    /// Seconds since 1970 when it was sealed.
    pub(crate) sealed: u64,
    /// The first number, and the one behind the last, of records that a power cut took before they were safe.
    pub(crate) torn: (u64, u64),
}

/// What stands beside an [`EVENT`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Accepted<'a> {
    #[serde(borrow)]
    pub(crate) destinations: SmallVec<[To<'a>; 2]>,
}

/// What stands beside a copied event.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Carried<'a> {
    /// The record it was accepted with.
    pub(crate) sequence: u64,
    /// Bytes of that record: what its sinks were charged with.
    pub(crate) bytes: u32,
    /// The record it was copied from.
    pub(crate) from: Location,
    /// That was a copy itself. Between copies there may be events, so the place alone does not tell.
    pub(crate) again: bool,
    /// Each with its place in the record it was accepted with.
    #[serde(borrow)]
    pub(crate) destinations: SmallVec<[(u16, To<'a>); 2]>,
}

/// A destination: a sink by its name, and an address there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct To<'a> {
    pub(crate) sink: &'a str,
    #[serde(borrow)]
    address: AddressNote<'a>,
}

impl<'a> To<'a> {
    pub(crate) fn new(sink: &'a str, address: &'a Address) -> Self {
        Self { sink, address: AddressNote::new(address) }
    }

    pub(crate) fn address(&self) -> Address {
        self.address.address()
    }
}

/// See [`CHECKPOINT`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) cursors: u32,
}

/// See [`CURSOR`]: how far a sink has got.
///
/// Whatever was written for it before `next` is resolved, but what is in `taken`, and what is in `carried` and behind
/// `passed`. The lists of taken entries are changes since the cursor before, whose number is one less; a `full` one begins
/// anew.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CursorNote<'a> {
    pub(crate) sink: &'a str,
    pub(crate) number: u64,
    pub(crate) full: bool,
    /// Where the next record is that it was not looked at for.
    pub(crate) next: Location,
    /// The last entry that it has taken.
    pub(crate) passed: Option<(u64, u16)>,
    /// Copied records, in their order; of what stands in them it has not taken what is behind `passed`.
    pub(crate) carried: Vec<(Location, Location)>,
    /// What it has to get altogether at this point of the journal.
    pub(crate) pending_events: u64,
    pub(crate) pending_bytes: u64,
    /// Taken and not resolved.
    pub(crate) taken: Vec<Taken>,
    /// Resolved since.
    pub(crate) resolved: Vec<(u64, u16)>,
}

/// An entry that was handed out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) sequence: u64,
    pub(crate) destination: u16,
    pub(crate) at: Location,
    pub(crate) bytes: u32,
    /// Seconds since 1970 when it was received.
    pub(crate) received: u64,
}

/// Reads a content; nothing where it does not follow the format.
pub(crate) fn read<'a, T: Deserialize<'a>>(content: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(content).ok().and_then(|(value, rest)| rest.is_empty().then_some(value))
}

/// Writes a content into an emptied buffer.
pub(crate) fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    out.clear();
    // Invariant: neither these types nor a `Vec` can refuse.
    let written = postcard::to_io(value, out);
    debug_assert!(written.is_ok());
}
