//! Where each letter is, and which file holds what.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{EntryId, File};

/// Where a letter is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The number of its file.
    pub(super) file: u64,
    pub(super) offset: u64,
    /// Bytes of its record, up to the next one.
    pub(super) length: u32,
    /// The entry of the journal it was, and its sink by place in [`Index::sinks`].
    entry: Option<(EntryId, u16)>,
}

/// A file of letters.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<dyn File>,
    /// Where the last record that counts ends.
    pub(super) end: u64,
    /// Letters in it that are there.
    pub(super) letters: usize,
    /// Files with letters that records of this one remove: while one of them is there, this one is needed.
    pub(super) removes: BTreeSet<u64>,
}

impl Segment {
    pub(super) fn new(file: Arc<dyn File>, end: u64) -> Self {
        Self { file, end, letters: 0, removes: BTreeSet::new() }
    }
}

/// All that is known without reading.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) letters: BTreeMap<u64, Spot>,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Bytes of the letters that are there.
    pub(super) live: u64,
    /// Letters that could not be read any more when they were to be moved.
    pub(super) lost: u64,
    entries: HashMap<(EntryId, u16), u64>,
    sinks: Vec<Arc<str>>,
    /// Further files that hold a record of a letter, left behind when it was copied on.
    copies: HashMap<u64, BTreeSet<u64>>,
}

impl Index {
    /// A letter is at this place, or is there too.
    pub(super) fn put(&mut self, id: u64, file: u64, at: (u64, u32), from: Option<(EntryId, &Arc<str>)>) {
        let entry = from.and_then(|(entry, sink)| Some((entry, self.sink(sink)?)));
        let (offset, length) = at;
        let spot = Spot { file, offset, length, entry };
        if let Some(old) = self.letters.insert(id, spot) {
            self.leave(&old);
            self.copy(id, old.file);
        }
        self.live += u64::from(length);
        if let Some(segment) = self.segments.get_mut(&file) {
            segment.letters += 1;
        }
        if let Some(entry) = entry {
            self.entries.insert(entry, id);
        }
    }

    /// A record of the letter is, or may be, in this file too.
    pub(super) fn copy(&mut self, id: u64, file: u64) {
        self.copies.entry(id).or_default().insert(file);
    }

    /// A record in the file `noted` says that the letter is gone. Returns whether it was there.
    pub(super) fn remove(&mut self, id: u64, noted: u64) -> bool {
        let Some(spot) = self.letters.remove(&id) else { return false };
        self.leave(&spot);
        if let Some(entry) = spot.entry {
            self.entries.remove(&entry);
        }
        let mut held = self.copies.remove(&id).unwrap_or_default();
        held.insert(spot.file);
        if let Some(segment) = self.segments.get_mut(&noted) {
            segment.removes.extend(held.into_iter().filter(|file| *file != noted));
        }
        true
    }

    /// A letter cannot be read any more.
    pub(super) fn lose(&mut self, id: u64) {
        let Some(spot) = self.letters.remove(&id) else { return };
        self.leave(&spot);
        if let Some(entry) = spot.entry {
            self.entries.remove(&entry);
        }
        self.copies.remove(&id);
        self.lost += 1;
    }

    /// The letter of this entry at this sink.
    pub(super) fn of_entry(&self, entry: EntryId, sink: &str) -> Option<u64> {
        let sink = self.sinks.iter().position(|known| **known == *sink)?;
        self.entries.get(&(entry, u16::try_from(sink).ok()?)).copied()
    }

    /// A file that nothing needs: no letter is in it, and no letter it removes is on disk. The newest one stays, as it
    /// knows how far the numbers are.
    pub(super) fn unneeded(&self) -> Option<u64> {
        let newest = *self.segments.keys().next_back()?;
        let needed = |segment: &Segment| {
            segment.letters > 0 || segment.removes.iter().any(|file| self.segments.contains_key(file))
        };
        let found = self.segments.iter().find(|(number, segment)| **number != newest && !needed(segment));
        found.map(|(number, _)| *number)
    }

    /// Forgets a file that was removed.
    pub(super) fn forget(&mut self, number: u64) {
        self.segments.remove(&number);
        self.copies.retain(|_, files| {
            files.remove(&number);
            !files.is_empty()
        });
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> u64 {
        self.segments.values().map(|segment| segment.end).sum()
    }

    fn leave(&mut self, spot: &Spot) {
        self.live -= u64::from(spot.length);
        if let Some(segment) = self.segments.get_mut(&spot.file) {
            segment.letters -= 1;
        }
    }

    fn sink(&mut self, sink: &Arc<str>) -> Option<u16> {
        let known = self.sinks.iter().position(|known| known == sink);
        let at = known.unwrap_or_else(|| {
            self.sinks.push(Arc::clone(sink));
            self.sinks.len() - 1
        });
        u16::try_from(at).ok()
    }
}
