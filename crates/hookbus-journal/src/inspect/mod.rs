//! Looking at a data folder from outside: what is wrong with it, what it holds, mending it, and copying it.
//!
//! Nothing here writes to the folder but [`repair`].

mod backup;
mod check;
mod finding;
mod read_only;
mod repair;
mod running;
mod status;
mod survey;

pub use backup::{BackedUp, Running, backup};
pub use check::check;
pub use finding::{Finding, Repaired, Report};
pub(crate) use read_only::ReadOnly;
pub use repair::repair;
pub(crate) use running::check_running;
pub use status::{AtRest, at_rest};

use std::io;

use thiserror::Error;

use crate::{JournalError, NotOpened, Unopenable};

/// A data folder cannot be looked at, mended or copied.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The journal cannot be read at all.
    #[error(transparent)]
    Journal(#[from] Unopenable),
    /// The dead letters cannot be read at all.
    #[error(transparent)]
    Letters(#[from] NotOpened),
    /// The journal does not do what is needed.
    #[error(transparent)]
    NotNow(#[from] JournalError),
    /// There is something where the backup should be written.
    #[error("the folder for the backup is not empty")]
    NotEmpty,
    /// Segments went while they were copied, each time.
    #[error("the journal lets go of its oldest segments faster than they can be copied: try again")]
    TooFast,
}
