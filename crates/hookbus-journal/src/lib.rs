#![doc = include_str!("../README.md")]

mod backlog;
mod carry;
mod commit;
mod cursor;
pub mod dedup;
mod engine;
mod figures;
mod folder;
mod format;
mod group;
mod journal;
mod keeper;
mod known;
mod recover;
mod segment;
#[doc(hidden)]
pub mod sim;
mod store;

pub use backlog::{Backlog, Entry, EntryId, Room};
pub use commit::{Appended, Commit, JournalError};
pub use figures::{GROUP_BUCKETS, SYNC_BUCKETS};
pub use folder::{File, Folder, RealFolder};
pub use journal::{Destination, Journal, Pending, Settings, SinkSettings, Threads};
pub use recover::OpenError;
