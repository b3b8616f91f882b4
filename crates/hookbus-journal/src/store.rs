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
    /// Segments of which acknowledged events are lost, since they were last asked for: their tables know those still.
    spoilt: Mutex<BTreeSet<u64>>,
    /// Acknowledged records that turned out to be damaged, at most.
    pub(crate) damaged: AtomicU64,
}

impl Store {
    pub(crate) fn new(folder: Arc<dyn Folder>, key: RecordKey) -> Self {
        let (segments, reported, spoilt, damaged) = Default::default();
        Self { folder, key, segments, reported, spoilt, damaged }
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
                self.spoil(segment.number);
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

    /// Events of this segment are lost: where they come again, they are new.
    pub(crate) fn spoil(&self, segment: u64) {
        self.spoilt.lock().unwrap_or_else(PoisonError::into_inner).insert(segment);
    }

    /// The segments of which events are lost, each of them once.
    pub(crate) fn take_spoilt(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *self.spoilt.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reports an entry whose record is damaged.
    pub(crate) fn lost(&self, id: EntryId, at: Location, sink: &str) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        self.spoil(at.segment);
        self.tell_lost(id, at, sink);
    }

    /// Tells of an entry whose record is damaged, and counted already.
    pub(crate) fn tell_lost(&self, id: EntryId, at: Location, sink: &str) {
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
