//! Looking at what is kept, while it is written or not: nothing here changes a file.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fs, io,
    io::Read as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    frame,
    record::{Record, millis},
    ring::Name,
};

/// Bytes of a file that are looked at; none of ours has as many.
const MOST: u64 = 16 << 20;
/// Requests that are returned at once.
const MOST_FOUND: usize = 10_000;

/// The record in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    dir: PathBuf,
    retention: Duration,
}

/// Which requests; what is not said chooses all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Chosen {
    pub(crate) source: Option<String>,
    pub(crate) reason: Option<String>,
    /// Answered at this or after it: milliseconds since 1970.
    pub(crate) since: Option<u64>,
    /// How many at most: the newest.
    pub(crate) limit: Option<usize>,
}

/// A request that is kept.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: u64,
    pub(crate) source: Arc<str>,
    pub(crate) record: Record,
    /// Empty in a list.
    pub(crate) body: Vec<u8>,
}

impl Reading {
    pub(super) fn new(dir: PathBuf, retention: Duration) -> Self {
        Self { dir, retention }
    }

    /// The requests that are chosen, the newest first, without headers and bodies. Blocks.
    ///
    /// # Errors
    /// As the system says. A folder that is not there has nothing in it; damaged files end where the damage begins.
    pub(crate) fn list(&self, chosen: &Chosen) -> io::Result<Vec<Found>> {
        let limit = chosen.limit.unwrap_or(MOST_FOUND).min(MOST_FOUND);
        let since = chosen.since.unwrap_or(0).max(self.oldest());
        let mut files = self.files()?;
        files.retain(|file| chosen.source.as_deref().is_none_or(|source| *file.source == *source));
        // The newest first. Numbers are in the order of time, also across sources.
        files.sort_by_key(|file| Reverse(file.number));
        let mut newest = BinaryHeap::new();
        let mut newer: HashMap<Arc<str>, u64> = HashMap::new();
        for name in files {
            // Everything in it is older than the next file of its source.
            let before = newer.insert(Arc::clone(&name.source), name.created);
            let oldest = newest.peek().map(|Reverse(Newest { at, .. })| *at);
            if newest.len() >= limit && before.zip(oldest).is_some_and(|(before, oldest)| before < oldest) {
                continue;
            }
            for (index, (record, _)) in frame::read(&self.read(&name)?).enumerate() {
                let is_chosen = record.at >= since
                    && chosen.reason.as_ref().is_none_or(|reason| *reason == record.reason);
                if !is_chosen {
                    continue;
                }
                let id = u64::from(name.number) << 16 | index as u64;
                let record = Record { headers: Vec::new(), ..record };
                let found = Found { id, source: Arc::clone(&name.source), record, body: Vec::new() };
                newest.push(Reverse(Newest { at: found.record.at, id, found }));
                if newest.len() > limit {
                    newest.pop();
                }
            }
        }
        let mut found: Vec<_> = newest.into_iter().map(|Reverse(newest)| newest.found).collect();
        found.sort_by_key(|found| Reverse((found.record.at, found.id)));
        Ok(found)
    }

    /// The request of this id, with all that is kept of it. Blocks.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn get(&self, id: u64) -> io::Result<Option<Found>> {
        let Some(name) = self.files()?.into_iter().find(|file| u64::from(file.number) == id >> 16) else {
            return Ok(None);
        };
        let file = self.read(&name)?;
        let at = usize::try_from(id & 0xffff).unwrap_or(usize::MAX);
        let found = frame::read(&file).nth(at).filter(|(record, _)| record.at >= self.oldest());
        Ok(found.map(|(record, body)| Found { id, source: name.source, record, body: body.to_vec() }))
    }

    /// The time before which nothing counts any more, whether its file is gone or not.
    fn oldest(&self) -> u64 {
        millis(SystemTime::now().checked_sub(self.retention).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    fn files(&self) -> io::Result<Vec<Name>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().to_str().and_then(Name::parse));
        }
        Ok(names)
    }

    /// One that went meanwhile has nothing in it.
    fn read(&self, name: &Name) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match fs::File::open(self.dir.join(name.text())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => drop(file?.take(MOST).read_to_end(&mut bytes)?),
        }
        Ok(bytes)
    }
}

/// Ordered by time.
struct Newest {
    at: u64,
    id: u64,
    found: Found,
}

impl Ord for Newest {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.id).cmp(&(other.at, other.id))
    }
}

impl PartialOrd for Newest {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Newest {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Newest {}
