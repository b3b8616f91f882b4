#![doc = include_str!("../README.md")]

mod address_note;
mod backlog;
mod carry;
mod commit;
mod cursor;
mod data_folder;
mod dead_letters;
pub mod dedup;
mod engine;
mod figures;
mod folder;
mod format;
mod gap;
mod given_up;
mod group;
mod inspect;
mod journal;
mod keeper;
mod known;
mod moving;
mod notes;
mod overlap;
mod recover;
mod room;
mod segment;
mod settle;
#[doc(hidden)]
pub mod sim;
mod store;
mod taken;
mod tell;
mod unreadable;
mod write;

pub use backlog::{Backlog, Entry, EntryId, Room};
pub use commit::{Appended, Commit, JournalError};
pub use data_folder::{DataFolder, OpenError, open_key};
pub use dead_letters::{
    DeadLetters, Letter, LetterSettings, LettersFound, Listing, NotKept, NotOpened, Summary,
};
pub use figures::{Figures, Observer, State};
pub use folder::{File, Folder, RealFolder};
pub use inspect::{
    AtRest, BackedUp, Finding, InspectError, Repaired, Report, Running, at_rest, backup, check, repair,
};
pub use journal::{Destination, Journal, Pending, Settings, SinkSettings, Threads};
pub use recover::Unopenable;
