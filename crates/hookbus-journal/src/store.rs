//! The files of the journal: which segments there are, and what was found wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hookbus_core::RecordKey;

use crate::{
    backlog::EntryId,
    folder::Folder,
    format::Location,
    segment::{Evidence, Scan, Segment},
};

/// The segments of a folder.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) key: RecordKey,
    segments: Mutex<BTreeMap<u64, Arc<Segment>>>,
    /// Damage that was reported, so that it is only once.
    reported: Mutex<BTreeSet<(u64, u64)>>,
    /// Acknowledged records that turned out to be damaged, at most.
    pub(crate) damaged: AtomicU64,
}

impl Store {
    pub(crate) fn new(folder: Arc<dyn Folder>, key: RecordKey) -> Self {
        let (segments, reported, damaged) = Default::default();
        Self { folder, key, segments, reported, damaged }
    }

    pub(crate) fn segments(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        self.segments().get(&number).cloned()
    }

    /// The segment of this number, or the next one there is.
    pub(crate) fn segment_from(&self, number: u64) -> Option<Arc<Segment>> {
        self.segments().range(number..).next().map(|(_, segment)| Arc::clone(segment))
    }

    /// Bytes of all segments on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments().values().map(|segment| segment.bytes()).sum()
    }

    /// Reports acknowledged records that a scan found damaged, each of them once.
    pub(crate) fn report(&self, segment: &Segment, scan: &Scan, evidence: Evidence, sink: Option<&str>) {
        for (hole, missing) in scan.damage(evidence) {
            let new = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            let new = { new }.insert((segment.number, hole.from));
            if new {
                self.damaged.fetch_add(missing, Ordering::Relaxed);
                let (segment, from, to) = (segment.number, hole.from, hole.to);
                tracing::error!(
                    segment,
                    from,
                    to,
                    at_most = missing,
                    ?sink,
                    "the journal is damaged: acknowledged events are lost"
                );
            }
        }
    }

    /// Reports an entry whose record is damaged.
    pub(crate) fn lost(&self, id: EntryId, at: Location, sink: &str) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        let (segment, offset, record) = (at.segment, at.offset, id.sequence);
        tracing::error!(
            segment,
            offset,
            record,
            sink,
            "the journal is damaged: an acknowledged event is lost"
        );
    }
}
