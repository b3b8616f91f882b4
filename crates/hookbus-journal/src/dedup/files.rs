//! All files of identities.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use smallvec::SmallVec;

use super::{
    Identity, TableFile,
    filter::Probe,
    found::{Found, seconds},
};

/// The files there are at one moment: cloned out of the [`Dedup`](super::Dedup), they are searched without holding what
/// guards that.
#[derive(Clone, Debug)]
pub struct Files {
    /// By segment.
    pub(super) list: Arc<[Arc<TableFile>]>,
    pub(super) window: Duration,
}

/// A search in those files that may know an event. It reads from disk.
#[derive(Debug)]
pub struct Search {
    files: SmallVec<[Arc<TableFile>; 1]>,
    identity: Identity,
    earliest: u32,
}

impl Search {
    /// What the files know of the event within the window. A damaged page answers that there is nothing.
    ///
    /// # Errors
    /// As the disk says.
    pub fn run(&self) -> io::Result<Option<Found>> {
        let mut found = None;
        for file in &self.files {
            file.search(&self.identity, self.earliest, &mut found)?;
        }
        Ok(found)
    }
}

impl Files {
    /// The search for an event within the window; nothing where no file knows it, which the filters in memory say.
    pub fn search(&self, identity: &Identity, now: SystemTime) -> Option<Search> {
        let (probe, earliest) = (Probe::new(identity), self.earliest(now));
        let may_know = |file: &&Arc<TableFile>| file.may_know(&probe, earliest);
        let files: SmallVec<_> = self.list.iter().filter(may_know).cloned().collect();
        (!files.is_empty()).then_some(Search { files, identity: *identity, earliest })
    }

    /// What the files know of an event within the window. Reads from disk where a filter says that there may be
    /// something. A damaged page answers that there is nothing.
    ///
    /// # Errors
    /// As the disk says.
    pub fn find(&self, identity: &Identity, now: SystemTime) -> io::Result<Option<Found>> {
        let mut found = None;
        self.add_found(identity, self.earliest(now), &mut found)?;
        Ok(found)
    }

    /// Whether these are the same files: nothing has come or gone since the one was cloned from the other.
    pub fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.list, &others.list)
    }

    pub(super) fn add_found(
        &self,
        identity: &Identity,
        earliest: u32,
        found: &mut Option<Found>,
    ) -> io::Result<()> {
        let probe = Probe::new(identity);
        self.list.iter().try_for_each(|file| file.find(identity, &probe, earliest, found))
    }

    /// The first second of the window.
    pub(super) fn earliest(&self, now: SystemTime) -> u32 {
        seconds(now).saturating_sub(self.window.as_secs().try_into().unwrap_or(u32::MAX))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|file| file.first.bytes()).sum()
    }

    pub(super) fn memory(&self) -> u64 {
        self.list.iter().map(|file| file.memory()).sum()
    }

    /// Takes a file out of the list.
    pub(super) fn take(&mut self, segment: u64) -> Option<Arc<TableFile>> {
        let file = self.list.iter().find(|file| file.first.segment == segment).cloned()?;
        self.list = self.list.iter().filter(|file| file.first.segment != segment).cloned().collect();
        Some(file)
    }

    /// Puts a file into the list, instead of the one its segment had.
    pub(super) fn put(&mut self, file: TableFile) {
        self.take(file.first.segment);
        let at = self.list.partition_point(|other| other.first.segment < file.first.segment);
        let mut list = self.list.to_vec();
        list.insert(at, Arc::new(file));
        self.list = list.into();
    }
}
