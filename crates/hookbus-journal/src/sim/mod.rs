//! A disk in memory that fails when it is told to, and that knows what a power cut may leave of it. For tests.
//!
//! Certain is what was synced. Of what was written since, each sector of 512 bytes has or has not reached the disk on its
//! own; of several writes to one sector, the first few have. A file that grew may be shorter again, or hold zeros where
//! nothing arrived. Names that were made, changed or removed since the folder was synced may each be as before; a rename
//! happens as a whole. What a failed sync should have made safe stays uncertain, whatever is synced later.

mod chance;
mod content;
mod failure;
mod names;
#[cfg(test)]
mod tests;

pub use failure::{Failure, Operation};

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::{chance::Chance, content::Content, names::Names};
use crate::{File, Folder};

/// A folder on the simulated disk. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct SimFolder {
    disk: Arc<Mutex<Disk>>,
}

/// How often the disk was asked for something, failures included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads of files.
    pub reads: u64,
    /// Writes to files.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of the folder.
    pub folder_syncs: u64,
}

#[derive(Debug, Default)]
struct Disk {
    names: Names,
    /// Also of files that have no name any more: somebody may still read them.
    contents: BTreeMap<u64, Content>,
    failures: Vec<Failure>,
    counts: Counts,
    next: u64,
}

impl SimFolder {
    /// An empty folder on a disk that works.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the disk fails in this way too.
    pub fn fail(&self, failure: Failure) {
        self.disk().failures.push(failure);
    }

    /// The disk works again; what failed syncs left uncertain stays so.
    pub fn heal(&self) {
        self.disk().failures.clear();
    }

    /// What the disk was asked for so far.
    pub fn counts(&self) -> Counts {
        self.disk().counts
    }

    /// What may be there after the power went at this moment; another `seed`, another of the possibilities. This folder
    /// stays as it is.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let disk = self.disk();
        let names = disk.names.cut(&mut chance);
        disk.copy(names, |content| content.cut(&mut chance))
    }

    /// What is there after the process died at this moment: all that was written. What was not synced is no safer than
    /// before. This folder stays as it is.
    #[must_use]
    pub fn crash(&self) -> Self {
        let disk = self.disk();
        disk.copy(disk.names.clone(), Content::clone)
    }

    /// All bytes of a file; nothing where there is none.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        let content = &disk.contents[&disk.names.get(name)?];
        let mut bytes = vec![0; content.len() as usize];
        content.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Puts a file there that holds these bytes, instead of one that was there; it is safe at once.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut disk = self.disk();
        let mut content = Content::default();
        content.write(bytes, 0);
        content.sync();
        let inode = disk.add(content);
        disk.names.put_safe(name, inode);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    fn handle(&self, name: &str, inode: u64) -> Arc<dyn File> {
        Arc::new(SimFile { disk: Arc::clone(&self.disk), name: name.to_owned(), inode })
    }
}

impl Disk {
    fn add(&mut self, content: Content) -> u64 {
        self.next += 1;
        self.contents.insert(self.next, content);
        self.next
    }

    /// Whether this fails, and how many bytes a write manages first.
    fn failing(&mut self, operation: Operation, name: &str) -> Option<(io::Error, usize)> {
        self.failures.iter_mut().find_map(|failure| failure.strikes(operation, name))
    }

    fn refuse(&mut self, operation: Operation, name: &str) -> io::Result<()> {
        self.failing(operation, name).map_or(Ok(()), |(error, _)| Err(error))
    }

    fn copy(&self, names: Names, mut content: impl FnMut(&Content) -> Content) -> SimFolder {
        let contents =
            names.inodes().into_iter().map(|inode| (inode, content(&self.contents[&inode]))).collect();
        let disk = Self { names, contents, next: self.next, ..Self::default() };
        SimFolder { disk: Arc::new(Mutex::new(disk)) }
    }
}

impl Folder for SimFolder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let inode = self.disk().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(name, inode))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        disk.refuse(Operation::Create, name)?;
        if disk.names.get(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.add(Content::default());
        disk.names.put(name, inode);
        drop(disk);
        Ok(self.handle(name, inode))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.list())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.refuse(Operation::Rename, from)?;
        let inode = disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.put(to, inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.refuse(Operation::Remove, name)?;
        disk.names.remove(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.counts.folder_syncs += 1;
        let refused = disk.refuse(Operation::SyncFolder, "");
        match refused {
            Ok(()) => disk.names.sync(),
            Err(_) => disk.names.give_up(),
        }
        refused
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<Mutex<Disk>>,
    /// The name it was opened by.
    name: String,
    inode: u64,
}

impl SimFile {
    fn with<T>(&self, then: impl FnOnce(&mut Disk, &mut Content) -> T) -> T {
        let mut disk = lock(&self.disk);
        let mut content = disk.contents.remove(&self.inode).unwrap_or_default();
        let done = then(&mut disk, &mut content);
        disk.contents.insert(self.inode, content);
        done
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|disk, content| {
            disk.counts.reads += 1;
            disk.refuse(Operation::Read, &self.name)?;
            Ok(content.read(buffer, offset))
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|disk, content| {
            disk.counts.writes += 1;
            let Some((error, written)) = disk.failing(Operation::Write, &self.name) else {
                content.write(bytes, offset);
                return Ok(());
            };
            content.write(&bytes[..written.min(bytes.len())], offset);
            Err(error)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|disk, content| {
            disk.counts.syncs += 1;
            let refused = disk.refuse(Operation::Sync, &self.name);
            match refused {
                Ok(()) => content.sync(),
                Err(_) => content.give_up(),
            }
            refused
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|_, content| content.len()))
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}
