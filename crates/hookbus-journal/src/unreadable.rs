//! What the disk cannot read. After some tries that counts as damage: a bad sector must not hold up all behind it.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::folder::File;

/// So often a place is read in vain; those who read wait longer each time.
const TRIES: u32 = 10;
/// How long a start waits before the second try; each time so much longer.
const WAIT: Duration = Duration::from_millis(5);
/// What can be read by itself.
const PAGE: usize = 4096;

/// Where a file could not be read, and how often.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    tries: Mutex<BTreeMap<u64, u32>>,
    /// There is any.
    any: AtomicBool,
    /// Whoever reads waits for the tries: nothing else goes on meanwhile.
    patient: AtomicBool,
    /// Where what was given up ends; nothing was, where that is zero.
    given_up: AtomicU64,
}

impl Unreadable {
    /// Of a file that nobody else waits for.
    pub(crate) fn patient() -> Self {
        Self { patient: AtomicBool::new(true), ..Self::default() }
    }

    /// Reads as [`File::read_at`] does. Where that has failed often enough, what cannot be read is zeros, page by page:
    /// there the records are missing then.
    pub(crate) fn read_at(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            let error = match file.read_at(buffer, offset) {
                Ok(read) => {
                    if self.any.load(Ordering::Relaxed) {
                        self.tries().remove(&offset);
                    }
                    return Ok(read);
                }
                Err(error) => error,
            };
            let tries = self.failed(offset);
            if tries >= TRIES {
                tracing::error!(%error, offset, "a part of the journal cannot be read, and counts as damaged");
                let (read, given_up) = by_pages(file, buffer, offset)?;
                self.given_up.fetch_max(given_up, Ordering::Relaxed);
                return Ok(read);
            }
            if !self.patient.load(Ordering::Relaxed) {
                return Err(error);
            }
            // A disk says nothing when it is better: there is no event to wait for. 225 ms in all, at a start only.
            std::thread::park_timeout(WAIT * tries);
        }
    }

    /// Whether whoever reads waits for the tries.
    pub(crate) fn be_patient(&self, patient: bool) {
        self.patient.store(patient, Ordering::Relaxed);
    }

    /// Whether a part of the file behind this place was given up: there may be anything.
    pub(crate) fn has_given_up_behind(&self, offset: u64) -> bool {
        self.given_up.load(Ordering::Relaxed) > offset
    }

    fn failed(&self, offset: u64) -> u32 {
        self.any.store(true, Ordering::Relaxed);
        let mut tries = self.tries();
        let tries = tries.entry(offset).or_default();
        *tries = tries.saturating_add(1);
        *tries
    }

    fn tries(&self) -> MutexGuard<'_, BTreeMap<u64, u32>> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads as [`File::read_at`] does, and tries again where that fails; in the end what cannot be read is zeros, page by page.
///
/// # Errors
/// As the disk says of the file's length.
pub(crate) fn read_patiently(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    Unreadable::patient().read_at(file, buffer, offset)
}

/// How much there is, and where the last page ends that cannot be read; zero where all can.
fn by_pages(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<(usize, u64)> {
    let mut given_up = 0;
    let length = usize::try_from(file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
    for (at, page) in (offset..).step_by(PAGE).zip(buffer[..length].chunks_mut(PAGE)) {
        let read = file.read_at(page, at).unwrap_or_else(|_| {
            given_up = at + page.len() as u64;
            0
        });
        page[read..].fill(0);
    }
    Ok((length, given_up))
}
