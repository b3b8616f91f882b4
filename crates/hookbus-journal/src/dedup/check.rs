//! Reading all tables of a folder, to see whether they are as they were written.

use std::{io, sync::Arc};

use hookbus_core::RecordKey;

use super::{
    TableFile,
    format::{self, FileKey},
};
use crate::Folder;

/// What the tables of a folder are like.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// So many are as they were written.
    pub(crate) sound: usize,
    /// The segments whose tables are not.
    pub(crate) damaged: Vec<u64>,
    /// Files whose writing was cut short.
    pub(crate) unfinished: Vec<String>,
}

/// Reads every table, and changes none.
pub(crate) fn check(folder: &dyn Folder, key: &RecordKey) -> io::Result<Checked> {
    let key = Arc::new(FileKey::of(key));
    let mut checked = Checked::default();
    for name in folder.names()? {
        if format::is_unfinished(&name) {
            checked.unfinished.push(name);
            continue;
        }
        let Some(segment) = format::segment(&name) else { continue };
        match TableFile::open(folder, &key, segment).and_then(|file| file.check()) {
            Ok(true) => checked.sound += 1,
            Ok(false) => checked.damaged.push(segment),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => checked.damaged.push(segment),
            // It went while the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    checked.damaged.sort_unstable();
    Ok(checked)
}

/// The name of the table of a segment.
pub(crate) fn name(segment: u64) -> String {
    format::name(segment)
}

/// Whether it is the name of a table.
pub(crate) fn is_table(name: &str) -> bool {
    table(name).is_some()
}

/// The segment whose table has this name.
pub(crate) fn table(name: &str) -> Option<u64> {
    format::segment(name)
}
