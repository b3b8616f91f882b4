//! How the disk fails.

use std::io;

/// What a disk is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// To read from a file.
    Read,
    /// To write to a file.
    Write,
    /// To make a file safe.
    Sync,
    /// To make a new file.
    Create,
    /// To give a file another name.
    Rename,
    /// To remove a file.
    Remove,
    /// To make the names safe.
    SyncFolder,
}

/// One way the disk fails: every such operation, until it is healed, unless narrowed down.
#[derive(Clone, Debug)]
pub struct Failure {
    operation: Operation,
    kind: io::ErrorKind,
    part: String,
    after: u64,
    times: u64,
    written: usize,
}

impl Failure {
    /// Operations of this kind fail with this error, and do nothing.
    pub fn new(operation: Operation, kind: io::ErrorKind) -> Self {
        Self { operation, kind, part: String::new(), after: 0, times: u64::MAX, written: 0 }
    }

    /// Only those on files with this in their name, by which they were opened; of renames the old name counts.
    #[must_use]
    pub fn of(mut self, part: &str) -> Self {
        part.clone_into(&mut self.part);
        self
    }

    /// So many succeed first.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.after = count;
        self
    }

    /// Only so many fail.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    /// Writes manage so many bytes before they fail.
    #[must_use]
    pub fn short(mut self, bytes: usize) -> Self {
        self.written = bytes;
        self
    }

    /// The error of this operation and the bytes a write manages, where this failure concerns it.
    pub(super) fn strikes(&mut self, operation: Operation, name: &str) -> Option<(io::Error, usize)> {
        if operation != self.operation || !name.contains(&self.part) {
            return None;
        }
        let strikes = self.after == 0 && self.times > 0;
        let counter = if self.after > 0 { &mut self.after } else { &mut self.times };
        *counter = counter.saturating_sub(1);
        strikes.then(|| (self.kind.into(), self.written))
    }
}
