//! Dead letters: events that no try could deliver, each with its reason, kept until somebody redrives or discards it.
//!
//! They have files of their own, so that neither the journal's size nor its retention takes one away. A file begins with
//! a page that says what it is; then come records, of letters and of removals. Nothing is ever changed in place.

mod index;
mod letter;
mod page;
mod recover;
mod scan;
mod tidying;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hookbus_core::{record::RecordKey, units::ByteSize};
use thiserror::Error;
use tokio::{sync::oneshot, task::spawn_blocking};

use crate::{EntryId, File, Folder, inspect::ReadOnly};

pub use letter::{Letter, Summary};
pub use recover::{LettersFound, NotOpened};

use index::{Index, Spot};
use page::Marks;
use writer::{Job, Writer};

/// Bytes of dead letters that may wait for the disk.
const MAX_PENDING: usize = 16 << 20;

/// How large the store may become.
#[derive(Clone, Copy, Debug)]
pub struct LetterSettings {
    /// Bytes of all its files; at this, nothing more is kept. The first page of a file may come on top, and one file
    /// more while what is left of an old one is moved.
    pub max_size: u64,
    /// Bytes after which a new file is begun. A file with no letter left is removed.
    pub segment_size: u64,
}

impl Default for LetterSettings {
    fn default() -> Self {
        Self { max_size: 256 << 20, segment_size: 16 << 20 }
    }
}

/// Why a letter was not kept, or not removed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum NotKept {
    /// The quota is reached.
    #[error("the dead letters have reached their `max-size` of {}", ByteSize::from_bytes(*.0))]
    Full(u64),
    /// It is larger than a record can be.
    #[error("the dead letter is larger than a record can be")]
    TooLarge,
    /// The disk refused; the next try may do better.
    #[error("cannot write the dead letters: {0}")]
    Io(Arc<io::Error>),
    /// The disk failed in a way after which nobody knows what it holds: the store must be opened again.
    #[error("the disk has failed under the dead letters, nothing more is written until a restart: {0}")]
    Failed(Arc<io::Error>),
    /// Too much is waiting for the disk already.
    #[error("the disk does not keep up with the dead letters")]
    Slow,
    /// The process is ending.
    #[error("stopping")]
    Stopping,
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Some letters, in the order of their ids.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// What is said of each.
    pub letters: Vec<Summary>,
    /// Ids of letters that could be read when the store was opened, and cannot now.
    pub unreadable: Vec<u64>,
    /// The last id that was looked at, to go on from; nothing where there was none.
    pub last: Option<u64>,
}

/// The store of dead letters. Cloning shares it.
#[derive(Clone)]
pub struct DeadLetters {
    store: Arc<Store>,
}

struct Store {
    folder: Arc<dyn Folder>,
    key: RecordKey,
    marks: Marks,
    settings: LetterSettings,
    index: Mutex<Index>,
    pending: Mutex<Pending>,
    /// Held by the one thread that writes.
    writer: Mutex<Writer>,
}

/// What waits for the disk.
#[derive(Default)]
struct Pending {
    jobs: Vec<Job>,
    bytes: usize,
    /// A thread is writing, and will look here again when it is done.
    writing: bool,
}

impl DeadLetters {
    /// Opens the store: reads all its files, which blocks. Nothing is written before the first letter is kept or
    /// removed; a file whose making a crash cut short is removed.
    ///
    /// # Errors
    /// [`NotOpened`]. Damage is none: it is counted in what was found.
    pub fn open(
        folder: Arc<dyn Folder>,
        key: RecordKey,
        settings: LetterSettings,
    ) -> Result<(Self, LettersFound), NotOpened> {
        let marks = Marks::new(&key);
        let recovered = recover::recover(&*folder, &key, &marks)?;
        recovered.make_safe(&*folder)?;
        let recover::Recovered { index, found, next, .. } = recovered;
        let next_file = index.segments.last_key_value().map_or(1, |(newest, _)| newest + 1);
        let writer = Mutex::new(Writer { current: None, next, next_file, failed: None });
        let (index, pending) = (Mutex::new(index), Mutex::default());
        let store = Store { folder, key, marks, settings, index, pending, writer };
        Ok((Self { store: Arc::new(store) }, found))
    }

    /// Keeps a letter and waits until it is on disk. Returns its id. One of the same entry and sink that is there
    /// already is not stored again. Where the wait is given up, it may be kept all the same.
    ///
    /// # Errors
    /// [`NotKept`]; then it does not count. After a restart it may be there all the same: somebody may see it twice.
    pub async fn keep(&self, letter: Letter) -> Result<u64, NotKept> {
        let (done, kept) = oneshot::channel();
        self.enqueue(Job::Keep(Box::new(letter), done))?;
        kept.await.unwrap_or(Err(NotKept::Stopping))
    }

    /// Removes letters and waits until that is on disk. Returns how many of them were there.
    ///
    /// # Errors
    /// [`NotKept`]; then they may be there again after a restart.
    pub async fn remove(&self, ids: &[u64]) -> Result<usize, NotKept> {
        let (done, removed) = oneshot::channel();
        self.enqueue(Job::Remove(ids.to_vec(), done))?;
        removed.await.unwrap_or(Err(NotKept::Stopping))
    }

    /// Says what there is, in the order it was given up: at most `limit` letters with ids above `after`.
    ///
    /// # Errors
    /// As the disk says.
    pub async fn list(&self, after: Option<u64>, limit: usize) -> io::Result<Listing> {
        let store = Arc::clone(&self.store);
        blocking(move || {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let spots: Vec<(u64, Spot)> = {
                let index = store.index();
                index.letters.range((from, Bound::Unbounded)).take(limit).map(|(id, at)| (*id, *at)).collect()
            };
            let mut listing = Listing::default();
            for (id, _) in spots {
                listing.last = Some(id);
                match store.get(id) {
                    Ok(Some(letter)) => listing.letters.push(Summary::new(id, &letter)),
                    Ok(None) => {}
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => listing.unreadable.push(id),
                    Err(error) => return Err(error),
                }
            }
            Ok(listing)
        })
        .await
    }

    /// Reads a letter; nothing where there is none of this id.
    ///
    /// # Errors
    /// As the disk says; [`io::ErrorKind::InvalidData`] where it was damaged since the store was opened.
    pub async fn get(&self, id: u64) -> io::Result<Option<Letter>> {
        let store = Arc::clone(&self.store);
        blocking(move || store.get(id)).await
    }

    /// Whether there is a letter of this entry of the journal at this sink.
    pub fn contains(&self, sink: &str, entry: EntryId) -> bool {
        self.store.index().of_entry(entry, sink).is_some()
    }

    /// Letters there are.
    pub fn len(&self) -> usize {
        self.store.index().letters.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of the newest letter.
    pub fn newest(&self) -> Option<u64> {
        self.store.index().letters.last_key_value().map(|(id, _)| *id)
    }

    /// Bytes of the letters that are there.
    pub fn bytes(&self) -> u64 {
        self.store.index().live
    }

    /// Letters that were found damaged when they were moved to make room, since it was opened: they are gone.
    pub fn lost(&self) -> u64 {
        self.store.index().lost
    }

    /// Bytes of all files: this is what the quota counts.
    pub fn size_on_disk(&self) -> u64 {
        self.store.index().size()
    }

    /// Reads all files, while nothing is kept or removed, and says what is there. Blocks.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn check(&self) -> Result<LettersFound, NotOpened> {
        let store = &self.store;
        self.hold(|| look(&ReadOnly(Arc::clone(&store.folder)), &store.key))
    }

    /// Does something while no letter is kept or removed. Blocks.
    pub(crate) fn hold<T>(&self, work: impl FnOnce() -> T) -> T {
        let _writer = lock(&self.store.writer);
        work()
    }

    /// The files of the store: their names, and where in them what counts ends.
    pub(crate) fn files(&self) -> Vec<(String, Arc<dyn File>, u64)> {
        let file = |(number, segment): (&u64, &index::Segment)| {
            (page::name(*number), Arc::clone(&segment.file), segment.end)
        };
        self.store.index().segments.iter().map(file).collect()
    }

    fn enqueue(&self, job: Job) -> Result<(), NotKept> {
        let begin = {
            let mut pending = lock(&self.store.pending);
            let size = job.size();
            // A single one that is larger comes all the same.
            if pending.bytes > 0 && pending.bytes + size > MAX_PENDING {
                return Err(NotKept::Slow);
            }
            pending.bytes += size;
            pending.jobs.push(job);
            !std::mem::replace(&mut pending.writing, true)
        };
        if begin {
            // One thread, however many wait: a disk that hangs must not take all threads that may block.
            let store = Arc::clone(&self.store);
            spawn_blocking(move || store.write_pending());
        }
        Ok(())
    }
}

impl Store {
    /// Writes groups of whatever waits, until nothing does.
    fn write_pending(&self) {
        let mut writer = lock(&self.writer);
        loop {
            let jobs = {
                let mut pending = lock(&self.pending);
                pending.bytes = 0;
                pending.writing = !pending.jobs.is_empty();
                std::mem::take(&mut pending.jobs)
            };
            if jobs.is_empty() {
                return;
            }
            self.write_jobs(&mut writer, jobs);
        }
    }

    /// Reads the letter of this id. It may be copied on meanwhile: then it is looked up again.
    fn get(&self, id: u64) -> io::Result<Option<Letter>> {
        loop {
            let Some(spot) = self.index().letters.get(&id).copied() else { return Ok(None) };
            let letter = self.read(id, spot);
            let moved = self.index().letters.get(&id).is_none_or(|now| now.file != spot.file);
            if letter.is_ok() || !moved {
                return letter.map(Some);
            }
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }
}

/// What there is in a folder, by reading all of it.
pub(crate) fn look(folder: &dyn Folder, key: &RecordKey) -> Result<LettersFound, NotOpened> {
    recover::recover(folder, key, &Marks::new(key)).map(|recovered| recovered.found)
}

/// Whether a file of this name holds letters.
pub(crate) fn is_letters(name: &str) -> bool {
    page::number(name).is_some()
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadLetters({})", self.len())
    }
}
