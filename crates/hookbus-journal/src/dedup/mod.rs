//! Which events were accepted before.
//!
//! Each segment of the journal has a table of the identities of its events: in memory while the segment is open, in a
//! file of its own from then on, of which only a small filter is held in memory. An event is looked up in all of them.
//! What is older than the window is forgotten, and so is the oldest file where all together would be too large.
//!
//! In doubt an event is new: damage makes an event come twice, it never drops one. A clock that goes backwards makes
//! nothing forgotten; one that jumps ahead shortens the window.

mod check;
mod file;
mod files;
mod filter;
mod format;
mod found;
mod identity;
mod sealing;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use check::{check, is_table, name, table};
pub use file::TableFile;
pub use files::{Files, Search};
pub use found::Found;
pub use identity::{DestinationHash, Identities, Identity};
pub use sealing::Sealing;

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hookbus_core::RecordKey;

use self::{format::FileKey, found::seconds, table::Table};
use crate::Folder;

/// Bytes of filters in memory, at most.
pub const MOST_MEMORY: u64 = 8 << 20;
/// Files at most: each is open.
pub const MOST_FILES: usize = 256;

/// How far back events are remembered.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// For so long, in whole seconds.
    pub window: Duration,
    /// Bytes of all files together; what is older has to go, within the window too.
    pub max_size: u64,
}

/// An event that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Acceptance<'a> {
    /// What it is known by.
    pub identity: Identity,
    /// Where it goes.
    pub destinations: &'a [DestinationHash],
    /// When.
    pub accepted: SystemTime,
    /// Anything that grows; it comes back in [`Found::sequence`].
    pub sequence: u64,
}

/// Which events were accepted before.
pub struct Dedup {
    folder: Arc<dyn Folder>,
    key: Arc<FileKey>,
    settings: Settings,
    open: Table,
    /// Tables whose files are not there yet.
    sealing: Vec<(u64, Arc<Table>)>,
    files: Files,
    /// When the newest entry was accepted that was forgotten before its time; 0 where there was none.
    forgotten: u32,
    most_memory: u64,
}

impl Dedup {
    /// Opens the files of a folder: reads their first pages and filters. With it come the segments whose file is damaged
    /// or cannot be read, which is left out; see [`Dedup::rebuild`].
    ///
    /// # Errors
    /// As the disk says of the folder.
    pub fn open(
        folder: Arc<dyn Folder>,
        key: &RecordKey,
        settings: Settings,
        now: SystemTime,
    ) -> io::Result<(Self, Vec<u64>)> {
        let key = Arc::new(FileKey::of(key));
        let (mut list, mut damaged) = (Vec::new(), Vec::new());
        for name in folder.names()? {
            if format::is_unfinished(&name) {
                // Where it cannot be removed, it is in nobody's way.
                let _ = folder.remove(&name);
            }
            let Some(segment) = format::segment(&name) else { continue };
            match TableFile::open(&*folder, &key, segment) {
                Ok(file) => list.push(Arc::new(file)),
                Err(_) => damaged.push(segment),
            }
        }
        damaged.sort_unstable();
        list.sort_unstable_by_key(|file| file.first.segment);
        let forgotten = list.iter().map(|file| file.first.forgotten).max().unwrap_or(0);
        let files = Files { list: list.into(), window: settings.window };
        let (open, sealing) = (Table::default(), Vec::new());
        let mut dedup =
            Self { folder, key, settings, open, sealing, files, forgotten, most_memory: MOST_MEMORY };
        // What cannot be removed is out of the list all the same.
        let _ = dedup.trim(now);
        Ok((dedup, damaged))
    }

    /// What is known of an event within the window, from all tables together. May read from disk.
    ///
    /// # Errors
    /// As the disk says.
    pub fn find(&self, identity: &Identity, now: SystemTime) -> io::Result<Option<Found>> {
        let mut found = self.find_in_memory(identity, now);
        self.files.add_found(identity, self.files.earliest(now), &mut found)?;
        Ok(found)
    }

    /// What is known of an event without the files: to be asked, where [`Files::find`] was done before what guards this
    /// was held. Both together know everything where [`Files::are`] still those of [`Dedup::files`].
    pub fn find_in_memory(&self, identity: &Identity, now: SystemTime) -> Option<Found> {
        let (earliest, mut found) = (self.files.earliest(now), None);
        self.open.find(identity, earliest, &mut found);
        self.sealing.iter().for_each(|(_, table)| table.find(identity, earliest, &mut found));
        found
    }

    /// The files there are now.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Notes an event of the open segment. One that is there already gets the new destinations beside its own.
    pub fn insert(&mut self, acceptance: &Acceptance<'_>) {
        insert(&mut self.open, acceptance);
    }

    /// The open segment is closed: what was noted so far is the table of this one. It stays known while the file is
    /// written, and until [`Dedup::adopt`]. `now` is how new an empty one counts as.
    pub fn seal(&mut self, segment: u64, now: SystemTime) -> Sealing {
        // The next one will have about as many; growing by moving all of them would hold everybody up.
        let next = Table::for_about(self.open.len());
        let table = std::mem::replace(&mut self.open, next);
        self.sealing(segment, table, now)
    }

    /// The table of a segment that has no file, or a damaged one. It is known from now on. `newest` is how new an empty
    /// one counts as.
    pub fn rebuild<'a>(
        &mut self,
        segment: u64,
        acceptances: impl IntoIterator<Item = Acceptance<'a>>,
        newest: SystemTime,
    ) -> Sealing {
        let mut table = Table::default();
        acceptances.into_iter().for_each(|acceptance| insert(&mut table, &acceptance));
        self.sealing(segment, table, newest)
    }

    /// Of the events of a segment only these are left. Nothing where its table knows no others; else its file goes, and
    /// what is left is known from now on.
    ///
    /// # Errors
    /// As the disk says of the file to be removed: then nothing has changed.
    pub fn correct<'a>(
        &mut self,
        segment: u64,
        left: impl IntoIterator<Item = Acceptance<'a>>,
        newest: SystemTime,
    ) -> io::Result<Option<Sealing>> {
        let mut table = Table::default();
        left.into_iter().for_each(|acceptance| insert(&mut table, &acceptance));
        let left = table.entries().len();
        let file = self.files.list.iter().find(|file| file.first.segment == segment);
        let file = file.map(|file| file.first.entries as usize);
        let sealing = self.sealing.iter().find(|(number, _)| *number == segment);
        let known = file.or(sealing.map(|(_, table)| table.entries().len()));
        if known.is_none_or(|known| known == left) {
            return Ok(None);
        }
        if file.is_some() {
            match self.folder.remove(&format::name(segment)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.files.take(segment);
        self.sealing.retain(|(number, _)| *number != segment);
        Ok(Some(self.sealing(segment, table, newest)))
    }

    fn sealing(&mut self, segment: u64, table: Table, newest: SystemTime) -> Sealing {
        let table = Arc::new(table);
        self.sealing.push((segment, Arc::clone(&table)));
        let (folder, key) = (Arc::clone(&self.folder), Arc::clone(&self.key));
        Sealing { folder, key, table, segment, sealed: seconds(newest), forgotten: self.forgotten }
    }

    /// From now on the file answers for the segment, and its table is dropped. Then [`Dedup::trim`].
    ///
    /// # Errors
    /// As the disk says of files to be removed; everything else is done.
    pub fn adopt(&mut self, file: TableFile, now: SystemTime) -> io::Result<()> {
        self.sealing.retain(|(segment, _)| *segment != file.first.segment);
        self.files.put(file);
        self.trim(now)
    }

    /// Forgets the files that have nothing within the window, and the oldest ones where all together are too large.
    ///
    /// # Errors
    /// As the disk says of files to be removed; they are forgotten all the same.
    pub fn trim(&mut self, now: SystemTime) -> io::Result<()> {
        let earliest = self.files.earliest(now);
        let past = self.files.list.iter().filter(|file| file.first.newest < earliest);
        let past: Vec<_> = past.map(|file| file.first.segment).collect();
        let mut removed = Ok(());
        for segment in past {
            removed = removed.and(self.forget(segment, now));
        }
        while self.files.bytes() > self.settings.max_size
            || self.files.memory() > self.most_memory
            || self.files.list.len() > MOST_FILES
        {
            // Invariant: an empty list is not too large.
            let Some(segment) = self.files.list.first().map(|file| file.first.segment) else { break };
            removed = removed.and(self.forget(segment, now));
        }
        removed
    }

    /// Forgets the events of a segment and removes its file, also one that was left out for its damage.
    ///
    /// # Errors
    /// As the disk says of the file; the events are forgotten all the same.
    pub fn forget(&mut self, segment: u64, now: SystemTime) -> io::Result<()> {
        let tables = self.sealing.extract_if(.., |(number, _)| *number == segment);
        let tables = tables.filter_map(|(_, table)| table.newest()).max();
        let known = tables.max(self.files.take(segment).map(|file| file.first.newest));
        let removed = match self.folder.remove(&format::name(segment)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        };
        // What a damaged file held is not newer than what came after it.
        let next = self.files.list.iter().map(|file| &file.first).find(|next| next.segment > segment);
        let unknown = || next.map_or(seconds(now), |next| next.oldest);
        let newest = known.or_else(|| matches!(removed, Ok(true)).then(unknown));
        if let Some(newest) = newest.filter(|newest| *newest >= self.files.earliest(now)) {
            self.forgotten = self.forgotten.max(newest);
        }
        removed.map(|_| ())
    }

    /// How far back it reaches now: the window, or less where something had to be forgotten before its time.
    pub fn window(&self, now: SystemTime) -> Duration {
        let since = seconds(now).saturating_sub(self.forgotten);
        self.settings.window.min(Duration::from_secs(since.into()))
    }

    /// Whether a segment whose newest event was accepted then should be rebuilt: it has no file, and has neither gone past
    /// the window nor been forgotten before its time.
    pub fn lacks(&self, segment: u64, newest: SystemTime, now: SystemTime) -> bool {
        let (newest, earliest) = (seconds(newest), self.files.earliest(now));
        newest >= earliest && newest > self.forgotten && !self.segments().any(|number| number == segment)
    }

    /// The segments that have a file.
    pub fn segments(&self) -> impl Iterator<Item = u64> {
        self.files.list.iter().map(|file| file.first.segment)
    }

    /// The segments in whose file a search met damage: whatever needed the damaged page was not found.
    pub fn damaged(&self) -> impl Iterator<Item = u64> {
        self.files.list.iter().filter(|file| file.is_damaged()).map(|file| file.first.segment)
    }

    /// Entries in all tables; an event with many destinations has several in a file.
    pub fn len(&self) -> usize {
        let sealing: usize = self.sealing.iter().map(|(_, table)| table.len()).sum();
        let files: usize = self.files.list.iter().map(|file| file.first.entries as usize).sum();
        self.open.len() + sealing + files
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.bytes()
    }

    /// Bytes of filters in memory.
    pub fn memory(&self) -> u64 {
        self.files.memory()
    }
}

fn insert(table: &mut Table, acceptance: &Acceptance<'_>) {
    let Acceptance { identity, destinations, accepted, sequence } = *acceptance;
    table.insert(identity, destinations, seconds(accepted), sequence);
}

impl fmt::Debug for Dedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, bytes) = (self.len(), self.bytes());
        f.debug_struct("Dedup").field("entries", &entries).field("bytes", &bytes).finish_non_exhaustive()
    }
}
