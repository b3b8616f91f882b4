//! The names of files, and what they may be after a power cut.

use std::collections::{BTreeMap, BTreeSet};

use super::chance::Chance;

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<String, u64>,
    certain: BTreeMap<String, u64>,
    /// What was done since, in order.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    inode: u64,
    /// What it is called now; of a file that was removed, what it was called.
    name: String,
    removed: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unsynced,
    GivenUp,
    Certain,
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        names.retain(|name, inode| *inode != self.inode || (self.removed && *name != self.name));
        if !self.removed {
            names.insert(self.name.clone(), self.inode);
        }
    }
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.now.get(name).copied()
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.now.keys().cloned().collect()
    }

    /// All that have a name, or may have one after a power cut.
    pub(super) fn inodes(&self) -> BTreeSet<u64> {
        let changed = self.changes.iter().map(|change| change.inode);
        self.now.values().chain(self.certain.values()).copied().chain(changed).collect()
    }

    /// A new file, or one with a new name.
    pub(super) fn put(&mut self, name: &str, inode: u64) {
        self.change(Change { inode, name: name.to_owned(), removed: false, state: State::Unsynced });
    }

    pub(super) fn put_safe(&mut self, name: &str, inode: u64) {
        self.change(Change { inode, name: name.to_owned(), removed: false, state: State::Certain });
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<()> {
        let inode = self.get(name)?;
        self.change(Change { inode, name: name.to_owned(), removed: true, state: State::Unsynced });
        Some(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.changes.push(change);
    }

    pub(super) fn sync(&mut self) {
        let now: Vec<_> =
            self.changes.iter().filter(|change| change.state == State::Unsynced).cloned().collect();
        for change in &mut self.changes {
            // What came after a change that was given up settles that one too.
            if now.iter().any(|later| later.inode == change.inode || later.name == change.name) {
                change.state = State::Certain;
            }
        }
        if self.changes.iter().all(|change| change.state == State::Certain) {
            self.certain = self.now.clone();
            self.changes.clear();
        }
    }

    /// A sync failed: what it should have made certain may never be.
    pub(super) fn give_up(&mut self) {
        for change in &mut self.changes {
            if change.state == State::Unsynced {
                change.state = State::GivenUp;
            }
        }
    }

    pub(super) fn cut(&self, chance: &mut Chance) -> Self {
        let mut names = self.certain.clone();
        for change in &self.changes {
            if change.state == State::Certain || chance.how_many(1) == 1 {
                change.apply(&mut names);
            }
        }
        Self { now: names.clone(), certain: names, changes: Vec::new() }
    }
}
