#![doc = include_str!("../README.md")]

mod backlog;
pub mod dedup;
mod folder;
mod journal;
#[doc(hidden)]
pub mod sim;

pub use backlog::{Backlog, Entry, EntryId, Room};
pub use folder::{File, Folder, RealFolder};
pub use journal::{Commit, Destination, Journal, JournalError};
