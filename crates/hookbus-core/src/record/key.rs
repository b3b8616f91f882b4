//! The key that tells our own records from everything else.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use super::{ALIGN, HEAD, Head, Kind, MAX_CONTENT, NoRecord, Place, Record, TAG};
use crate::VerifiedEvent;

/// The local secret under which records are sealed. It never leaves the machine; whoever has it can write records that
/// count as verified events.
#[derive(Clone)]
pub struct RecordKey {
    key: Zeroizing<[u8; 32]>,
}

/// What should be a key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a record key has 32 bytes, this has {0}")]
pub struct BadKey(usize);

impl RecordKey {
    /// A key of these 32 bytes, which must be random.
    ///
    /// # Errors
    /// [`BadKey`] where there are more or fewer.
    pub fn new(bytes: &[u8]) -> Result<Self, BadKey> {
        let key = <[u8; 32]>::try_from(bytes).map_err(|_| BadKey(bytes.len()))?;
        Ok(Self { key: Zeroizing::new(key) })
    }

    /// A name for the key that gives nothing of it away, to tell "written under another key" from "damaged".
    pub fn fingerprint(&self) -> [u8; 8] {
        let hash = blake3::derive_key("hookbus 2026 fingerprint of a record key", &*self.key);
        std::array::from_fn(|at| hash[at])
    }

    /// A key for other uses, such as hashing identities, from which this one cannot be found.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &*self.key)
    }

    /// Appends a record of an event to `out`, with what is to be known about it.
    ///
    /// # Errors
    /// [`TooLarge`] where both together are more than [`MAX_CONTENT`]; nothing is appended then.
    pub fn seal_event(
        &self,
        place: Place,
        kind: Kind,
        about: &[u8],
        event: &VerifiedEvent,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let kind = Kind::event(kind.as_byte());
        self.seal(place, kind, out, |out| {
            let length = u32::try_from(about.len()).map_err(|_| TooLarge)?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(about);
            event.write_record(out);
            Ok(())
        })
    }

    /// Appends a record that holds no event to `out`.
    ///
    /// # Errors
    /// [`TooLarge`] where the note is more than [`MAX_CONTENT`]; nothing is appended then.
    pub fn seal_note(
        &self,
        place: Place,
        kind: Kind,
        note: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let kind = Kind::note(kind.as_byte());
        self.seal(place, kind, out, |out| {
            out.extend_from_slice(note);
            Ok(())
        })
    }

    /// Proves the record at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`NoRecord`].
    pub fn prove<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>, NoRecord> {
        let head = Head::read(bytes).ok_or(NoRecord::NoHead)?;
        let end = HEAD + head.length as usize;
        let sealed = bytes.get(..end).ok_or(NoRecord::CutOff)?;
        let tag = bytes.get(end..end + TAG).ok_or(NoRecord::CutOff)?;
        if !bool::from(subtle::ConstantTimeEq::ct_eq(&self.tag(sealed)[..], tag)) {
            return Err(NoRecord::BadTag);
        }
        let content = &sealed[HEAD..];
        let event = match head.kind.holds_event() {
            true => event_at(content).ok_or(NoRecord::BadTag)?,
            false => content.len(),
        };
        Ok(Record { head, content, event })
    }

    fn seal(
        &self,
        place: Place,
        kind: Kind,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        let written = write(out).and_then(|()| {
            let length = out.len() - start - HEAD;
            u32::try_from(length).ok().filter(|_| length <= MAX_CONTENT).ok_or(TooLarge)
        });
        let length = match written {
            Ok(length) => length,
            Err(too_large) => {
                out.truncate(start);
                return Err(too_large);
            }
        };
        out[start..start + HEAD].copy_from_slice(&Head { kind, place, length }.write());
        let tag = self.tag(&out[start..]);
        out.extend_from_slice(&tag);
        let padded = start + (out.len() - start).next_multiple_of(ALIGN);
        out.resize(padded, 0);
        Ok(())
    }

    fn tag(&self, sealed: &[u8]) -> [u8; TAG] {
        let hash = blake3::keyed_hash(&self.key, sealed);
        std::array::from_fn(|at| hash.as_bytes()[at])
    }
}

/// Where the event begins in a content that holds one.
fn event_at(content: &[u8]) -> Option<usize> {
    let about = u32::from_le_bytes(*content.first_chunk::<4>()?) as usize;
    about.checked_add(4).filter(|at| *at <= content.len())
}

/// A content is larger than a record takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("more than a record holds")]
pub struct TooLarge;

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(..)")
    }
}
