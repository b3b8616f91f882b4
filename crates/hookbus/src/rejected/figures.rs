//! What is counted of a source's record.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Why a request was counted and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// There were twenty in the last second.
    Rate,
    /// The disk does not keep up.
    Queue,
    /// The disk refused.
    Disk,
    /// Nothing is to be kept, or there is no data folder.
    Off,
}

impl NotKept {
    pub(crate) const ALL: [Self; 4] = [Self::Rate, Self::Queue, Self::Disk, Self::Off];

    /// The reason in one lower-case word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Queue => "queue",
            Self::Disk => "disk",
            Self::Off => "off",
        }
    }
}

/// The figures of one source.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(super) source: Arc<str>,
    kept: AtomicU64,
    not_kept: [AtomicU64; NotKept::ALL.len()],
    written: AtomicU64,
    disk: AtomicU64,
    verified: AtomicU64,
    refused: AtomicU64,
}

impl Figures {
    pub(super) fn new(source: Arc<str>) -> Self {
        let (kept, not_kept, written, disk, verified, refused) = Default::default();
        Self { source, kept, not_kept, written, disk, verified, refused }
    }

    /// A request verified.
    pub(super) fn verified(&self) {
        self.verified.fetch_add(1, Relaxed);
    }

    /// A request did not verify.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Requests that verified, and that did not, since the start.
    pub(super) fn seen(&self) -> (u64, u64) {
        (self.verified.load(Relaxed), self.refused.load(Relaxed))
    }

    /// A request is in its file, which took so many bytes.
    pub(super) fn kept(&self, bytes: u64) {
        self.kept.fetch_add(1, Relaxed);
        self.written.fetch_add(bytes, Relaxed);
    }

    /// One was only counted.
    pub(super) fn not_kept(&self, why: NotKept) {
        self.not_kept[why as usize].fetch_add(1, Relaxed);
    }

    /// The files have so many bytes now.
    pub(super) fn on_disk(&self, bytes: u64) {
        self.disk.store(bytes, Relaxed);
    }

    /// Requests that verified since the start.
    pub(crate) fn verified_requests(&self) -> u64 {
        self.verified.load(Relaxed)
    }

    /// Requests that were kept since the start.
    pub(crate) fn kept_requests(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    /// Bytes that were written since the start.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Bytes of the files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk.load(Relaxed)
    }

    /// Each reason not to keep a request, with how often it was one.
    pub(crate) fn not_kept_requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NotKept::ALL.into_iter().map(|why| (why.as_str(), self.not_kept[why as usize].load(Relaxed)))
    }
}
