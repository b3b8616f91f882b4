//! A file of identities, as it is read.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Identity,
    filter::{Filter, Probe},
    format::{self, ENTRY, Entry, FileKey, First, PAGE, PER_PAGE},
    found::Found,
};
use crate::{File, Folder};

/// The identities of one segment, safe on disk.
#[derive(Debug)]
pub struct TableFile {
    pub(super) first: First,
    file: Arc<dyn File>,
    key: Arc<FileKey>,
    /// What the first identity of each page begins with.
    fences: Vec<u32>,
    filter: Filter,
    damaged: AtomicBool,
}

impl TableFile {
    /// A file whose first page and tail are as they were written.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where they are not; or as the disk says.
    pub(super) fn open(folder: &dyn Folder, key: &Arc<FileKey>, segment: u64) -> io::Result<Self> {
        let file = folder.open(&format::name(segment))?;
        let mut page = [0; PAGE];
        exactly(&*file, &mut page, 0)?;
        let first = First::read(key, segment, &page).ok_or(io::ErrorKind::InvalidData)?;
        if file.len()? != first.bytes() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut tail = vec![0; (first.bytes() - first.tail()) as usize];
        exactly(&*file, &mut tail, first.tail())?;
        if !first.has_tail(key, &page, &tail) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (fences, filter) = tail.split_at(first.fences());
        let fences = fences.as_chunks().0.iter().map(|fence| u32::from_le_bytes(*fence));
        Ok(Self {
            fences: fences.take(first.pages()).collect(),
            filter: Filter::read(filter),
            first,
            file,
            key: Arc::clone(key),
            damaged: AtomicBool::new(false),
        })
    }

    /// Whether a page that a search needed was not as it was written.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Bytes of it that are held in memory.
    pub(super) fn memory(&self) -> u64 {
        self.filter.memory() + self.fences.len() as u64 * 4
    }

    /// Adds what the file knows of an event, as far as that was accepted at `earliest` or later.
    pub(super) fn find(
        &self,
        identity: &Identity,
        probe: &Probe,
        earliest: u32,
        found: &mut Option<Found>,
    ) -> io::Result<()> {
        if self.may_know(probe, earliest) {
            self.search(identity, earliest, found)?;
        }
        Ok(())
    }

    /// Whether it may know an event that was accepted at `earliest` or later, from memory.
    pub(super) fn may_know(&self, probe: &Probe, earliest: u32) -> bool {
        self.first.newest >= earliest && self.filter.may_have(probe)
    }

    /// Adds what the file knows of an event, from disk.
    #[inline(never)]
    pub(super) fn search(
        &self,
        identity: &Identity,
        earliest: u32,
        found: &mut Option<Found>,
    ) -> io::Result<()> {
        let leading = identity.leading();
        // Nearly always a single page.
        let start = self.fences.partition_point(|fence| *fence < leading).saturating_sub(1);
        let end = self.fences.partition_point(|fence| *fence <= leading);
        for number in start..end {
            let mut page = [0; PAGE];
            if !self.read(number, &mut page)? {
                continue;
            }
            let entries = &page.as_chunks::<ENTRY>().0[..self.entries_of(number)];
            let first = entries.partition_point(|entry| entry[..Identity::LEN] < identity.0[..]);
            let same = entries[first..].iter().take_while(|entry| entry[..Identity::LEN] == identity.0);
            // Only an answer that holds an event back has to be proved.
            if same.clone().next().is_none() || !self.proved(number, &page) {
                continue;
            }
            for entry in same.map(Entry::read).filter(|entry| entry.accepted >= earliest) {
                Found::add(found, entry.accepted, None, entry.destinations);
            }
        }
        Ok(())
    }

    /// Reads all pages and says whether each of them is as it was written.
    ///
    /// # Errors
    /// As the disk says.
    pub fn check(&self) -> io::Result<bool> {
        for number in 0..self.first.pages() {
            let mut page = [0; PAGE];
            if !self.read(number, &mut page)? || !self.proved(number, &page) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn entries_of(&self, page: usize) -> usize {
        (self.first.entries as usize - page * PER_PAGE).min(PER_PAGE)
    }

    /// Reads a page of entries; not where the file is too short.
    fn read(&self, number: usize, page: &mut [u8; PAGE]) -> io::Result<bool> {
        let whole = self.file.read_at(page, ((1 + number) * PAGE) as u64)? == PAGE;
        Ok(self.sound(whole))
    }

    fn proved(&self, number: usize, page: &[u8; PAGE]) -> bool {
        self.sound(self.key.fits(self.first.segment, 1 + number as u32, page))
    }

    fn sound(&self, sound: bool) -> bool {
        if !sound {
            self.damaged.store(true, Ordering::Relaxed);
        }
        sound
    }
}

fn exactly(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    match file.read_at(buffer, offset)? == buffer.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}
