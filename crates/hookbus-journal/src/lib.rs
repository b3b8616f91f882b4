#![doc = include_str!("../README.md")]

mod backlog;
mod data_folder;
mod dead_letters;
mod folder;
mod journal;

pub use backlog::{Backlog, Entry, EntryId, Room};
pub use data_folder::{DataFolder, OpenError, open_key};
pub use dead_letters::{
    DeadLetters, Letter, LetterSettings, LettersFound, Listing, NotKept, NotOpened, Summary,
};
pub use folder::{File, Folder, RealFolder};
pub use journal::{Commit, Destination, Journal, JournalError};
