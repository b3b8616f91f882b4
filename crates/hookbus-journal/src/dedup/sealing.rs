//! From the table of a segment to its file.

use std::{fmt, io, sync::Arc};

use super::{
    TableFile,
    filter::Filter,
    format::{self, Entry, FileKey, First, PAGE, PER_PAGE},
    table::Table,
};
use crate::Folder;

/// Pages that are written at once.
const AT_ONCE: usize = 16;

/// The table of a segment that has to become a file, on whatever thread may wait for the disk.
pub struct Sealing {
    pub(super) folder: Arc<dyn Folder>,
    pub(super) key: Arc<FileKey>,
    pub(super) table: Arc<Table>,
    pub(super) segment: u64,
    /// What an empty table has as its time.
    pub(super) sealed: u32,
    pub(super) forgotten: u32,
}

impl Sealing {
    /// The segment.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// Writes the file and makes it safe on disk, for [`Dedup::adopt`](super::Dedup::adopt). A file the segment had
    /// before is replaced.
    ///
    /// # Errors
    /// As the disk says; it may be tried again. What is known of the events is still in memory then.
    pub fn write(&self) -> io::Result<TableFile> {
        let (name, unfinished) = (format::name(self.segment), format::unfinished(self.segment));
        match self.folder.remove(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let entries = self.table.entries();
        let file = self.folder.create(&unfinished)?;
        let mut bytes = Vec::with_capacity(AT_ONCE * PAGE);
        for (at, some) in entries.chunks(AT_ONCE * PER_PAGE).enumerate() {
            bytes.clear();
            for (page, entries) in some.chunks(PER_PAGE).enumerate() {
                bytes.extend_from_slice(&self.page(1 + at * AT_ONCE + page, entries));
            }
            file.write_at(&bytes, ((1 + at * AT_ONCE) * PAGE) as u64)?;
        }
        let first = self.first(&entries)?;
        let tail = tail(&first, &entries);
        file.write_at(&tail, first.tail())?;
        file.write_at(&first.write(&self.key, &tail), 0)?;
        file.sync()?;
        self.folder.rename(&unfinished, &name)?;
        self.folder.sync()?;
        TableFile::open(&*self.folder, &self.key, self.segment)
    }

    fn first(&self, entries: &[Entry]) -> io::Result<First> {
        let times = entries.iter().map(|entry| entry.accepted);
        Ok(First {
            segment: self.segment,
            entries: entries.len().try_into().map_err(|_| io::ErrorKind::FileTooLarge)?,
            oldest: times.clone().min().unwrap_or(self.sealed),
            newest: times.max().unwrap_or(self.sealed),
            forgotten: self.forgotten,
        })
    }

    fn page(&self, number: usize, entries: &[Entry]) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        for (into, entry) in page.as_chunks_mut().0.iter_mut().zip(entries) {
            *into = entry.write();
        }
        self.key.close(self.segment, number as u32, &mut page);
        page
    }
}

fn tail(first: &First, entries: &[Entry]) -> Vec<u8> {
    let mut tail = Vec::with_capacity((first.bytes() - first.tail()) as usize);
    for page in entries.chunks(PER_PAGE) {
        tail.extend_from_slice(&page[0].identity.leading().to_le_bytes());
    }
    tail.resize(first.fences(), 0);
    let mut filter = Filter::for_count(entries.len());
    entries.iter().for_each(|entry| filter.insert(&entry.identity));
    tail.extend(filter.bytes());
    tail
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("segment", &self.segment).finish_non_exhaustive()
    }
}
