//! How a file of identities is laid out.
//!
//! Pages of 4 KiB. The first says what the file is; then come the entries, in the order of their identities, 127 to a
//! page; then the *tail*: the first identity of each page (its leading four bytes), filled up to a multiple of 64, and
//! the filter. Every page ends with a tag under a key that only this machine has, which covers the segment and the number
//! of the page too; the tag of the tail is in the first page. Numbers are little-endian.
//!
//! | first page | |
//! |---|---|
//! | 0 | `hookbids` |
//! | 8 | version, 1 |
//! | 12 | entries |
//! | 16 | segment (8 bytes) |
//! | 24 | when the oldest entry was accepted, seconds since 1970 |
//! | 28 | the newest entry |
//! | 32 | the newest entry that was forgotten before its time, when the file was written |
//! | 36 | zeros |
//! | 4,064 | tag of the tail |
//! | 4,080 | tag of the page |
//!
//! An entry has 32 bytes: 12 of identity, when it was accepted, four destinations (0 for none). An event with more
//! destinations has several entries.

use hookbus_core::RecordKey;
use zeroize::Zeroizing;

use super::{
    Identity,
    filter::{BLOCK, Filter},
};

pub(super) const PAGE: usize = 4096;
/// Destinations that one entry holds.
pub(super) const HELD: usize = 4;
pub(super) const ENTRY: usize = 32;
/// Entries of a page.
pub(super) const PER_PAGE: usize = (PAGE - TAG) / ENTRY;
const TAG: usize = 16;
const MARK: [u8; 8] = *b"hookbids";
const VERSION: u32 = 1;
const UNFINISHED: &str = ".new";

/// An entry as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) identity: Identity,
    pub(super) accepted: u32,
    pub(super) destinations: [u32; HELD],
}

impl Entry {
    pub(super) fn write(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..Identity::LEN].copy_from_slice(&self.identity.0);
        let numbers = std::iter::once(self.accepted).chain(self.destinations);
        for (into, number) in bytes[Identity::LEN..].chunks_exact_mut(4).zip(numbers) {
            into.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(super) fn read(bytes: &[u8; ENTRY]) -> Self {
        Self {
            identity: Identity(std::array::from_fn(|at| bytes[at])),
            accepted: number(bytes, Identity::LEN),
            destinations: std::array::from_fn(|at| number(bytes, Identity::LEN + 4 + at * 4)),
        }
    }
}

/// What the first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) segment: u64,
    pub(super) entries: u32,
    pub(super) oldest: u32,
    pub(super) newest: u32,
    pub(super) forgotten: u32,
}

impl First {
    pub(super) fn write(&self, keys: &FileKey, tail: &[u8]) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(&MARK);
        page[16..24].copy_from_slice(&self.segment.to_le_bytes());
        let numbers =
            [(8, VERSION), (12, self.entries), (24, self.oldest), (28, self.newest), (32, self.forgotten)];
        for (at, number) in numbers {
            page[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        page[PAGE - 2 * TAG..PAGE - TAG].copy_from_slice(&keys.tail_tag(self.segment, tail));
        keys.close(self.segment, 0, &mut page);
        page
    }

    /// What a first page says, with its right tag, about this segment.
    pub(super) fn read(keys: &FileKey, segment: u64, page: &[u8; PAGE]) -> Option<Self> {
        let fits = keys.fits(segment, 0, page) && page[..8] == MARK && number(page, 8) == VERSION;
        fits.then(|| Self {
            segment,
            entries: number(page, 12),
            oldest: number(page, 24),
            newest: number(page, 28),
            forgotten: number(page, 32),
        })
    }

    /// Whether these are the bytes behind the entries.
    pub(super) fn has_tail(&self, keys: &FileKey, page: &[u8; PAGE], tail: &[u8]) -> bool {
        page[PAGE - 2 * TAG..PAGE - TAG] == keys.tail_tag(self.segment, tail)
    }

    /// Pages of entries.
    pub(super) fn pages(&self) -> usize {
        (self.entries as usize).div_ceil(PER_PAGE)
    }

    /// Where the tail begins.
    pub(super) fn tail(&self) -> u64 {
        ((1 + self.pages()) * PAGE) as u64
    }

    /// Bytes of the tail before its filter.
    pub(super) fn fences(&self) -> usize {
        (self.pages() * 4).next_multiple_of(BLOCK)
    }

    /// Bytes of the whole file.
    pub(super) fn bytes(&self) -> u64 {
        self.tail() + (self.fences() + Filter::blocks(self.entries as usize) * BLOCK) as u64
    }
}

/// The key that tags pages.
pub(super) struct FileKey(pub(super) Zeroizing<[u8; 32]>);

impl FileKey {
    /// The key of a folder that has this one.
    pub(super) fn of(key: &RecordKey) -> Self {
        Self(Zeroizing::new(key.derive("hookbus 2026 files of identities")))
    }

    /// Puts the tag of a page where it belongs.
    pub(super) fn close(&self, segment: u64, page: u32, bytes: &mut [u8; PAGE]) {
        let tag = self.tag(segment, page, &bytes[..PAGE - TAG]);
        bytes[PAGE - TAG..].copy_from_slice(&tag);
    }

    /// Whether this is the page it was written as.
    pub(super) fn fits(&self, segment: u64, page: u32, bytes: &[u8; PAGE]) -> bool {
        bytes[PAGE - TAG..] == self.tag(segment, page, &bytes[..PAGE - TAG])
    }

    fn tail_tag(&self, segment: u64, tail: &[u8]) -> [u8; TAG] {
        self.tag(segment, u32::MAX, tail)
    }

    fn tag(&self, segment: u64, page: u32, bytes: &[u8]) -> [u8; TAG] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&segment.to_le_bytes()).update(&page.to_le_bytes()).update(bytes);
        let hash = hasher.finalize();
        std::array::from_fn(|at| hash.as_bytes()[at])
    }
}

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileKey(..)")
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// The name of the file of a segment.
pub(super) fn name(segment: u64) -> String {
    format!("{segment:010}.ids")
}

/// The segment whose file has this name.
pub(super) fn segment(file: &str) -> Option<u64> {
    let number = file.strip_suffix(".ids")?.parse().ok()?;
    (name(number) == file).then_some(number)
}

/// Its name before it is whole.
pub(super) fn unfinished(segment: u64) -> String {
    format!("{}{UNFINISHED}", name(segment))
}

/// Whether it is the name of a file that was never finished.
pub(super) fn is_unfinished(file: &str) -> bool {
    file.strip_suffix(UNFINISHED).and_then(segment).is_some()
}
