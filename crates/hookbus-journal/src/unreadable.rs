//! What the disk cannot read. After some tries that counts as damage: a bad sector must not hold up all behind it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, PoisonError},
};

use crate::folder::File;

/// So often a place is read in vain; those who read wait longer each time.
const TRIES: u32 = 10;
/// What can be read by itself.
const PAGE: usize = 4096;

/// Where a file could not be read, and how often.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    tries: Mutex<BTreeMap<u64, u32>>,
}

impl Unreadable {
    /// Reads as [`File::read_at`] does. Where that has failed often enough, what cannot be read is zeros, page by page:
    /// there the records are missing then.
    pub(crate) fn read_at(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match file.read_at(buffer, offset) {
            Err(error) => match self.is_given_up(offset) {
                true => {
                    tracing::error!(%error, offset, "a part of the journal cannot be read, and counts as damaged");
                    by_pages(file, buffer, offset)
                }
                false => Err(error),
            },
            read => read,
        }
    }

    fn is_given_up(&self, offset: u64) -> bool {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = tries.entry(offset).or_default();
        *tries = tries.saturating_add(1);
        *tries >= TRIES
    }
}

fn by_pages(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let length = usize::try_from(file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
    for (at, page) in (offset..).step_by(PAGE).zip(buffer[..length].chunks_mut(PAGE)) {
        let read = file.read_at(page, at).unwrap_or(0);
        page[read..].fill(0);
    }
    Ok(length)
}
