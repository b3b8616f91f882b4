//! What can be wrong with a data folder.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a check read, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Segments that were read.
    pub segments: usize,
    /// Tables of identities that are sound.
    pub tables: usize,
    /// Dead letters that can be read.
    pub letters: usize,
    /// What is wrong, segments first.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Finding {
    /// Acknowledged records were between these offsets and are not any more.
    Damaged {
        /// The segment.
        segment: u64,
        /// The first byte that is no record.
        from: u64,
        /// The first byte behind.
        to: u64,
        /// Acknowledged events that are lost, at most.
        events: u64,
    },
    /// Records before this segment are in no file.
    Missing {
        /// The segment.
        segment: u64,
        /// Acknowledged events that are lost, at most.
        events: u64,
    },
    /// The first page of a segment is damaged; its records prove themselves.
    FirstPage {
        /// The segment.
        segment: u64,
    },
    /// A segment has no footer: the bridge was ended while it was written. The next start reads it whole and writes one.
    Unsealed {
        /// The segment.
        segment: u64,
    },
    /// A segment has no record that proves, and is not simply new.
    Unreadable {
        /// The segment.
        segment: u64,
    },
    /// The table of identities of a segment is damaged: re-deliveries of its events may come twice.
    Table {
        /// The segment.
        segment: u64,
    },
    /// Places in the files of dead letters where something was written and is not there any more.
    Letters {
        /// How many.
        places: usize,
    },
    /// Bytes at the end of the newest file of dead letters that are no record.
    UnfinishedLetter {
        /// How many.
        bytes: u64,
    },
    /// A file that nothing needs.
    Superfluous {
        /// Its name.
        file: String,
    },
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "repaired", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Repaired {
    /// A file has another name now, under which nobody reads it.
    SetAside {
        /// The name it had.
        file: String,
        /// The name it has.
        to: String,
    },
    /// The first page of a segment was written anew, with its footer.
    Sealed {
        /// The segment.
        segment: u64,
    },
    /// The table of identities of a segment was made anew.
    Table {
        /// The segment.
        segment: u64,
    },
}

impl Finding {
    /// Whether anything that was acknowledged is lost by it.
    pub fn loses_events(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Missing { .. } | Self::Unreadable { .. } | Self::Letters { .. }
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { segment, from, to, events } => write!(
                f,
                "segment {segment}: damaged from byte {from} to {to}, at most {events} acknowledged events lost"
            ),
            Self::Missing { segment, events } => write!(
                f,
                "before segment {segment}: records are missing, at most {events} acknowledged events lost"
            ),
            Self::FirstPage { segment } => {
                write!(f, "segment {segment}: its first page is damaged, its records are not")
            }
            Self::Unsealed { segment } => {
                write!(f, "segment {segment}: not sealed, as after a crash; the next start does it")
            }
            Self::Unreadable { segment } => write!(f, "segment {segment}: holds no record that proves"),
            Self::Table { segment } => write!(
                f,
                "table of segment {segment}: damaged; re-deliveries of its events may be accepted again"
            ),
            Self::Letters { places } => {
                write!(f, "dead letters: damaged at {places} places, each may have cost some")
            }
            Self::UnfinishedLetter { bytes } => {
                write!(f, "dead letters: the last {bytes} bytes were not written to their end")
            }
            Self::Superfluous { file } => write!(f, "{file}: nothing needs this file"),
        }
    }
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetAside { file, to } => write!(f, "{file}: set aside as {to}"),
            Self::Sealed { segment } => write!(f, "segment {segment}: its first page was written anew"),
            Self::Table { segment } => write!(f, "table of segment {segment}: made anew"),
        }
    }
}
