//! What a journal holds that nobody has open.

use std::sync::Arc;

use hookbus_core::RecordKey;

use super::{InspectError, read_only::ReadOnly, survey::survey};
use crate::{
    Folder, Pending, backlog, dead_letters,
    format::Location,
    recover::{feeds, replay},
    store::Store,
};

/// What is in a folder that nobody else holds.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AtRest {
    /// The sinks that have something to get.
    pub pending: Vec<Pending>,
    /// Bytes of all segments on disk.
    pub disk_bytes: u64,
    /// How many segments there are.
    pub segments: u64,
    /// Dead letters.
    pub letters: u64,
    /// Acknowledged events that are damaged, at most.
    pub damaged: u64,
}

/// Says what a folder holds, and changes nothing. Blocks: all of it is read.
///
/// # Errors
/// [`InspectError`].
pub fn at_rest(folder: Arc<dyn Folder>, key: RecordKey) -> Result<AtRest, InspectError> {
    let folder: Arc<dyn Folder> = Arc::new(ReadOnly(folder));
    let store = Arc::new(Store::new(Arc::clone(&folder), key));
    let survey = survey(&store)?;
    let (progress, _) = replay(&store)?;
    let last = store.segments().values().next_back().cloned();
    let head = last.map_or_else(Location::default, |last| Location {
        segment: last.number,
        offset: last.end().unwrap_or(last.header.capacity),
    });
    let mut pending = Vec::new();
    for feed in feeds(progress, &[], head) {
        // The oldest is known once it is read.
        let job = feed.cursor().next_read();
        if let Some(job) = job {
            let found = backlog::read(&store, &feed, &job)?;
            feed.cursor().read(&job, Some(found));
        }
        let (events, bytes) = feed.pending();
        let oldest = feed.cursor().oldest_received();
        pending.push(Pending { sink: Arc::clone(&feed.name), events, bytes, oldest });
    }
    let damaged = survey.findings.iter().map(|finding| match finding {
        super::Finding::Damaged { events, .. } | super::Finding::Missing { events, .. } => *events,
        _ => 0,
    });
    Ok(AtRest {
        pending,
        disk_bytes: survey.disk_bytes,
        segments: (store.segments().len() + survey.unused.len()) as u64,
        letters: dead_letters::look(&*folder, &store.key)?.count as u64,
        damaged: damaged.sum(),
    })
}
