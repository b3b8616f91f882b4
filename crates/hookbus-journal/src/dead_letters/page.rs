//! The first page of a file of letters.

use hookbus_core::record::RecordKey;

/// Bytes before the first record.
pub(super) const PAGE: u64 = 4096;
/// The version of the format this writes, and the newest it reads.
const VERSION: u32 = 1;
const MARK: [u8; 8] = *b"hkbLetrs";
/// Bytes of the page in use, without the tag.
const USED: usize = 52;
const PURPOSE: &str = "hookbus 2026 files of dead letters";

/// What the first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// The file's number, which is in its name too.
    pub(super) number: u64,
    /// No record of an earlier file has this number or a later one.
    pub(super) next: u64,
    /// The file before it; zero where there was none.
    pub(super) previous: u64,
    /// Where that one ended when this one was begun: what is behind does not count.
    pub(super) previous_end: u64,
}

/// What a first page turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadPage {
    Good(Page),
    /// Written by a newer version of this format.
    Newer(u32),
    /// It looks whole, and another key wrote it.
    OtherKey,
    Damaged,
}

/// Makes and checks what is particular to one file under one key.
pub(super) struct Marks {
    fingerprint: [u8; 8],
    key: [u8; 32],
}

impl Marks {
    pub(super) fn new(key: &RecordKey) -> Self {
        Self { fingerprint: key.fingerprint(), key: key.derive(PURPOSE) }
    }

    /// The generation of records in the file of this number. Not guessable without the key, so that no body can hold
    /// anything that looks like a record of this file.
    pub(super) fn generation(&self, number: u64) -> u64 {
        let hash = blake3::keyed_hash(&self.key, &number.to_le_bytes());
        u64::from_le_bytes(std::array::from_fn(|at| hash.as_bytes()[at]))
    }

    pub(super) fn write(&self, page: &Page) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        bytes[..8].copy_from_slice(&MARK);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        for (at, value) in [page.number, page.next, page.previous, page.previous_end].into_iter().enumerate()
        {
            bytes[12 + at * 8..20 + at * 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes[44..USED].copy_from_slice(&self.fingerprint);
        let tag = self.tag(&bytes);
        bytes[USED..USED + 16].copy_from_slice(&tag);
        bytes
    }

    pub(super) fn read(&self, number: u64, bytes: &[u8]) -> ReadPage {
        if bytes.len() < PAGE as usize || bytes[..8] != MARK {
            return ReadPage::Damaged;
        }
        let eight = |at: usize| std::array::from_fn(|i| bytes[at + i]);
        let value = |at: usize| u64::from_le_bytes(eight(at));
        if bytes[USED..USED + 16] != self.tag(bytes) {
            return if eight(44) == self.fingerprint { ReadPage::Damaged } else { ReadPage::OtherKey };
        }
        let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let page = Page { number: value(12), next: value(20), previous: value(28), previous_end: value(36) };
        match version {
            VERSION if page.number == number => ReadPage::Good(page),
            VERSION => ReadPage::Damaged,
            newer => ReadPage::Newer(newer),
        }
    }

    fn tag(&self, bytes: &[u8]) -> [u8; 16] {
        let hash = blake3::keyed_hash(&self.key, &bytes[..USED]);
        std::array::from_fn(|at| hash.as_bytes()[at])
    }
}

/// The name of the file of this number.
pub(super) fn name(number: u64) -> String {
    format!("letters-{number:010}.segment")
}

/// The number in such a name.
pub(super) fn number(file: &str) -> Option<u64> {
    let number = file.strip_prefix("letters-")?.strip_suffix(".segment")?.parse().ok()?;
    (number > 0 && name(number) == file).then_some(number)
}
