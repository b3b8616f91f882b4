//! Reads a file of letters record by record, and searches on behind what is none.

use std::io;

use hookbus_core::record::{ALIGN, HEAD, Head, MARK, Record, RecordKey, TAG};

use super::page::PAGE;
use crate::{File, unreadable::Unreadable};

/// Bytes read at once.
const STEP: usize = 256 << 10;

/// What a scan found beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Where the last good record ends.
    pub(super) end: u64,
    /// How often something between two good records was none.
    pub(super) damaged: usize,
    /// Something behind the last good record could not be read.
    pub(super) unreadable_end: bool,
}

/// Calls `each` with every record of this generation between the first page and `end`.
pub(super) fn scan(
    file: &dyn File,
    end: u64,
    key: &RecordKey,
    generation: u64,
    mut each: impl FnMut(u64, &Record<'_>),
) -> io::Result<Scanned> {
    let mut window = Window { file, unreadable: Unreadable::patient(), start: 0, bytes: Vec::new(), end };
    let mut scanned = Scanned { end: PAGE.min(end), damaged: 0, unreadable_end: false };
    let (mut at, mut bad) = (PAGE, false);
    while at < end {
        let head = Head::read(window.at(at, HEAD)?).filter(|head| head.place.generation == generation);
        let sealed = |head: &Head| HEAD + head.length as usize + TAG;
        // Nothing is read for a length that the file does not have.
        let head = head.filter(|head| at + sealed(head) as u64 <= end);
        let proven = match head {
            Some(head) => key.prove(window.at(at, sealed(&head))?).ok().map(|record| {
                each(at, &record);
                head.record_len() as u64
            }),
            None => None,
        };
        match proven {
            Some(length) => {
                scanned.damaged += usize::from(std::mem::take(&mut bad));
                at += length;
                scanned.end = at.min(end);
            }
            None => {
                bad = true;
                at = window.next_mark(at + ALIGN as u64)?;
            }
        }
    }
    scanned.unreadable_end = window.unreadable.has_given_up_behind(scanned.end);
    Ok(scanned)
}

/// The piece of a file that is in memory.
struct Window<'f> {
    file: &'f dyn File,
    unreadable: Unreadable,
    start: u64,
    bytes: Vec<u8>,
    end: u64,
}

impl Window<'_> {
    /// So many bytes from `at` on; fewer only at the end.
    fn at(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let length = length.min(usize::try_from(self.end - at).unwrap_or(usize::MAX));
        let inside = at >= self.start && at + length as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            let wanted = length.max(STEP).min(usize::try_from(self.end - at).unwrap_or(usize::MAX));
            self.bytes.resize(wanted, 0);
            let read = self.unreadable.read_at(self.file, &mut self.bytes, at)?;
            self.bytes.truncate(read);
            self.start = at;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX).min(self.bytes.len());
        Ok(&self.bytes[from..self.bytes.len().min(from + length)])
    }

    /// The next place from `at` on where a record may begin, or the end.
    fn next_mark(&mut self, mut at: u64) -> io::Result<u64> {
        while at < self.end {
            let bytes = self.at(at, STEP)?;
            let steps = bytes.chunks(ALIGN).position(|step| step.starts_with(&MARK));
            match steps {
                Some(steps) => return Ok(at + (steps * ALIGN) as u64),
                None if bytes.len() < ALIGN => break,
                None => at += (bytes.len() / ALIGN * ALIGN) as u64,
            }
        }
        Ok(self.end)
    }
}
