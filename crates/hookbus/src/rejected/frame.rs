//! Records in a file, one behind the other.
//!
//! A file begins with a line that says what it is. A frame is two lengths, eight bytes of a digest, the head and the
//! body. Reading ends at the first thing that is none: what stands in bodies is never taken for a frame.

use super::record::Record;

/// The first line of a file.
pub(super) const BEGIN: &[u8] = b"hookbus rejected 1\n";
/// Bytes before the head of a frame.
const PREFIX: usize = 16;
/// Bytes that a head or a body never has.
const TOO_LONG: u32 = 4 << 20;

/// The bytes of a record and its body; nothing where they are too long.
pub(super) fn write(record: &Record, body: &[u8]) -> Option<Vec<u8>> {
    let head = postcard::to_stdvec(record).ok()?;
    let lengths = [u32::try_from(head.len()).ok()?, u32::try_from(body.len()).ok()?];
    if lengths.iter().any(|length| *length >= TOO_LONG) {
        return None;
    }
    let mut frame = Vec::with_capacity(PREFIX + head.len() + body.len());
    frame.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
    frame.extend(digest(lengths, &head, body));
    frame.extend(head);
    frame.extend_from_slice(body);
    Some(frame)
}

/// The records of a file.
pub(super) fn read(file: &[u8]) -> Frames<'_> {
    Frames { rest: file.strip_prefix(BEGIN).unwrap_or_default() }
}

/// Reads one record after the other.
pub(super) struct Frames<'f> {
    rest: &'f [u8],
}

impl<'f> Iterator for Frames<'f> {
    type Item = (Record, &'f [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (prefix, rest) = self.rest.split_at_checked(PREFIX)?;
        let length = |at: usize| Some(u32::from_le_bytes(prefix.get(at..at + 4)?.try_into().ok()?));
        let lengths = [length(0)?, length(4)?];
        let (head, rest) = rest.split_at_checked(lengths[0] as usize)?;
        let (body, rest) = rest.split_at_checked(lengths[1] as usize)?;
        if prefix[8..] != digest(lengths, head, body) {
            return None;
        }
        self.rest = rest;
        Some((postcard::from_bytes(head).ok()?, body))
    }
}

/// It tells a whole record from a torn one; nobody is kept from forging one who may write the file.
fn digest(lengths: [u32; 2], head: &[u8], body: &[u8]) -> [u8; 8] {
    let mut digest = blake3::Hasher::new();
    for length in lengths {
        digest.update(&length.to_le_bytes());
    }
    digest.update(head).update(body);
    let mut short = [0; 8];
    short.copy_from_slice(&digest.finalize().as_bytes()[..8]);
    short
}
