//! A folder in memory whose power can be cut, and which can fail.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{File, Folder};

/// What a folder holds, by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug, Default)]
pub(super) struct MemoryFolder {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Names as they are, and as they are on disk.
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    /// Operations that change something until the power is cut.
    power: Option<usize>,
    fail: Option<Failure>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    safe: Vec<u8>,
    /// Where and what was written since the last sync.
    unsafe_writes: Vec<(usize, Vec<u8>)>,
}

/// What goes wrong next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A write stops half way: no space.
    Write,
    /// A sync fails.
    Sync,
    /// Nothing can be removed.
    Remove,
    /// Nothing can be read from this byte of a file on.
    ReadFrom(usize),
}

impl MemoryFolder {
    /// A folder with these files, all of them safe.
    pub(super) fn with(files: &Files) -> Self {
        let folder = Self::default();
        {
            let mut state = folder.lock();
            for (name, bytes) in files {
                let at = state.files.len();
                state.files.push(Content {
                    bytes: bytes.clone(),
                    safe: bytes.clone(),
                    unsafe_writes: Vec::new(),
                });
                state.names.insert(name.clone(), at);
            }
            state.safe_names = state.names.clone();
        }
        folder
    }

    /// What it holds now.
    pub(super) fn files(&self) -> Files {
        let state = self.lock();
        state.names.iter().map(|(name, at)| (name.clone(), state.files[*at].bytes.clone())).collect()
    }

    /// Cuts the power after so many changes: all later ones fail.
    pub(super) fn cut_after(&self, changes: usize) {
        self.lock().power = Some(changes);
    }

    pub(super) fn fail(&self, failure: Option<Failure>) {
        self.lock().fail = failure;
    }

    /// What is on disk after a power cut: of what was not synced any part may be there.
    pub(super) fn after_the_cut(&self, mut choose: impl FnMut(usize) -> usize) -> Files {
        let state = self.lock();
        let names = if choose(2) == 0 { &state.names } else { &state.safe_names };
        let file = |at: usize, choose: &mut dyn FnMut(usize) -> usize| {
            let content = &state.files[at];
            let mut bytes = content.safe.clone();
            for (offset, write) in &content.unsafe_writes {
                let (from, to) = (choose(write.len() + 1), choose(write.len() + 1));
                let (from, to) = if choose(3) == 0 { (0, write.len()) } else { (from.min(to), to) };
                if bytes.len() < offset + to && from < to {
                    bytes.resize(offset + to, 0);
                }
                if from < to {
                    bytes[offset + from..offset + to].copy_from_slice(&write[from..to]);
                }
            }
            bytes
        };
        names.iter().map(|(name, at)| (name.clone(), file(*at, &mut choose))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, kind: Option<Failure>) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if let Some(left) = &mut state.power {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("no power"))?;
        }
        if kind.is_some() && kind == state.fail {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(state)
    }
}

impl Folder for MemoryFolder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let at = *self.lock().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile { folder: self.clone(), at }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.change(None)?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let at = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name.to_owned(), at);
        Ok(Arc::new(MemoryFile { folder: self.clone(), at }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.change(None)?;
        let at = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), at);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.change(Some(Failure::Remove))?;
        state.names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.change(Some(Failure::Sync))?;
        state.safe_names = state.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    folder: MemoryFolder,
    at: usize,
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.folder.lock();
        if let Some(Failure::ReadFrom(at)) = state.fail
            && offset as usize + buffer.len() > at
        {
            return Err(io::ErrorKind::Other.into());
        }
        let bytes = state.files[self.at].bytes.get(offset as usize..).unwrap_or_default();
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, result) = match self.folder.change(Some(Failure::Write)) {
            Ok(state) => (state, Ok(bytes)),
            Err(error) => (self.folder.lock(), Err(error)),
        };
        let (bytes, result) = match result {
            Ok(bytes) => (bytes, Ok(())),
            Err(error) => (&bytes[..bytes.len() / 2], Err(error)),
        };
        let offset = offset as usize;
        let content = &mut state.files[self.at];
        if content.bytes.len() < offset + bytes.len() {
            content.bytes.resize(offset + bytes.len(), 0);
        }
        content.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        content.unsafe_writes.push((offset, bytes.to_vec()));
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.folder.change(Some(Failure::Sync))?;
        let content = &mut state.files[self.at];
        content.safe = content.bytes.clone();
        content.unsafe_writes.clear();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.folder.lock().files[self.at].bytes.len() as u64)
    }
}
