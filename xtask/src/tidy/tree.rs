//! The files of the repository.

use std::{collections::BTreeMap, fs, io::ErrorKind, process::Command};

use crate::run::{Result, output};

/// All text files that are in the repository or about to be, by path.
#[derive(Debug)]
pub(super) struct Tree(BTreeMap<String, String>);

impl Tree {
    /// Reads what git knows and what it would not ignore.
    pub(super) fn load() -> Result<Self> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let list = output(Command::new("git").args(list))?;
        let mut files = BTreeMap::new();
        for path in list.split_terminator('\0') {
            match fs::read(path) {
                Ok(bytes) if bytes.contains(&0) => {}
                Ok(bytes) => {
                    files.insert(path.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
                }
                // Deleted and not yet staged.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(format!("cannot read {path}: {error}")),
            }
        }
        Ok(Self(files))
    }

    /// A tree for tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    /// All files, sorted by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files with one of these endings.
    pub(super) fn ending(&self, endings: &[&str]) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| endings.iter().any(|ending| path.ends_with(ending)))
    }

    /// The text of a file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// The names of the folders under `crates/` that hold a crate.
    pub(super) fn crates(&self) -> impl Iterator<Item = &str> {
        let manifests =
            self.files().filter_map(|(path, _)| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"));
        manifests.filter(|name| !name.contains('/'))
    }
}
