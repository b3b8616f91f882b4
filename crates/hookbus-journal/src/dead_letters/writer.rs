//! Writing: whatever waits goes to disk as one group with one fsync.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use hookbus_core::record::{Place, TooLarge};
use tokio::sync::oneshot;

use super::{
    NotKept, Store,
    index::{Index, Segment},
    letter::{LETTER, Letter, REMOVED},
    page::{self, Page},
};
use crate::{EntryId, File};

/// What somebody waits for.
pub(super) enum Job {
    Keep(Box<Letter>, oneshot::Sender<Result<u64, NotKept>>),
    Remove(Vec<u64>, oneshot::Sender<Result<usize, NotKept>>),
}

impl Job {
    /// Bytes it holds in memory, roughly.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Keep(letter, _) => usize::try_from(letter.size()).unwrap_or(usize::MAX),
            Self::Remove(ids, _) => ids.len() * 8,
        }
    }
}

/// What only the one thread that writes knows.
#[derive(Debug)]
pub(super) struct Writer {
    /// The file that is appended to; nothing until the first write, and after one that went wrong.
    pub(super) current: Option<Current>,
    /// The number of the next record.
    pub(super) next: u64,
    /// The number of the next file.
    pub(super) next_file: u64,
    /// An fsync failed: what is on disk cannot be known, so nothing more is written.
    pub(super) failed: Option<NotKept>,
}

#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    /// Its name is not known to be on disk yet.
    pub(super) new: bool,
}

/// Records on their way, and what they change once they are safe.
pub(super) struct Group {
    /// Every record before this number is safe.
    durable: u64,
    bytes: Vec<u8>,
    kept: Vec<Kept>,
    removed: Vec<u64>,
}

struct Kept {
    id: u64,
    at: (u64, u32),
    entry: Option<(EntryId, Arc<str>)>,
}

/// What somebody is told once the group is safe.
enum Answer {
    Kept(oneshot::Sender<Result<u64, NotKept>>, u64),
    Removed(oneshot::Sender<Result<usize, NotKept>>, usize),
}

impl Answer {
    fn tell(self, result: Result<(), NotKept>) {
        // Nobody may wait any more; what was written counts all the same.
        match self {
            Self::Kept(done, id) => drop(done.send(result.map(|()| id))),
            Self::Removed(done, count) => drop(done.send(result.map(|()| count))),
        }
    }
}

impl Store {
    /// Writes a group and tells each of it.
    pub(super) fn write_jobs(&self, writer: &mut Writer, jobs: Vec<Job>) {
        let ready = match &writer.failed {
            Some(failed) => Err(failed.clone()),
            None => {
                self.make_room(writer, &jobs);
                self.begin(writer)
            }
        };
        if let Err(error) = ready {
            return jobs.into_iter().for_each(|job| refuse(job, error.clone()));
        }
        let mut group = Group::new(writer);
        let answers = self.seal(writer, jobs, &mut group);
        let result = self.commit(writer, group);
        if let Err(error) = &result {
            tracing::error!(%error, "dead letters could not be kept");
        }
        // Before anybody is told: who has removed letters may look at the folder.
        if result.is_ok()
            && let Err(error) = self.unlink_unneeded(writer)
        {
            tracing::error!(%error, "a file of dead letters could not be removed");
        }
        answers.into_iter().for_each(|answer| answer.tell(result.clone()));
    }

    /// Turns jobs into records; tells those at once that come to nothing.
    fn seal(&self, writer: &mut Writer, jobs: Vec<Job>, group: &mut Group) -> Vec<Answer> {
        let size = self.index().size();
        let (mut entries, mut removing) = (HashMap::new(), HashSet::new());
        let mut answers = Vec::new();
        for job in jobs {
            match job {
                Job::Keep(letter, done) => {
                    let entry = letter.entry.map(|entry| (entry, Arc::clone(&letter.sink)));
                    let stored = letter.entry.and_then(|entry| self.index().of_entry(entry, &letter.sink));
                    let stored = stored.filter(|id| !removing.contains(id));
                    let stored = stored.or_else(|| entry.as_ref().and_then(|key| entries.get(key).copied()));
                    if let Some(id) = stored {
                        answers.push(Answer::Kept(done, id));
                        continue;
                    }
                    match self.seal_letter(writer, writer.next, &letter, group) {
                        Ok(()) if size + group.bytes.len() as u64 <= self.settings.max_size => {
                            entries.extend(entry.map(|key| (key, writer.next)));
                            answers.push(Answer::Kept(done, writer.next));
                            writer.next += 1;
                        }
                        Ok(()) => {
                            group.withdraw_last();
                            tracing::error!("the dead letters have reached their max-size");
                            Answer::Kept(done, 0).tell(Err(NotKept::Full(self.settings.max_size)));
                        }
                        Err(TooLarge) => Answer::Kept(done, 0).tell(Err(NotKept::TooLarge)),
                    }
                }
                Job::Remove(ids, done) => {
                    let ids: Vec<u64> = {
                        let index = self.index();
                        let there = |id: &u64| index.letters.contains_key(id) && removing.insert(*id);
                        ids.into_iter().filter(there).collect()
                    };
                    match self.seal_removal(writer, &ids, group) {
                        Ok(()) => answers.push(Answer::Removed(done, ids.len())),
                        Err(TooLarge) => Answer::Removed(done, 0).tell(Err(NotKept::TooLarge)),
                    }
                    group.removed.extend(ids);
                }
            }
        }
        answers
    }

    /// Adds the record of a letter to a group for the current file.
    pub(super) fn seal_letter(
        &self,
        writer: &Writer,
        id: u64,
        letter: &Letter,
        group: &mut Group,
    ) -> Result<(), TooLarge> {
        let start = group.bytes.len();
        let place = Place { generation: self.generation(writer), sequence: id, durable: group.durable };
        self.key.seal_event(place, LETTER, &letter.about(id), &letter.event, &mut group.bytes)?;
        let length = u32::try_from(group.bytes.len() - start).map_err(|_| TooLarge)?;
        let entry = letter.entry.map(|entry| (entry, Arc::clone(&letter.sink)));
        group.kept.push(Kept { id, at: (start as u64, length), entry });
        Ok(())
    }

    fn seal_removal(&self, writer: &mut Writer, ids: &[u64], group: &mut Group) -> Result<(), TooLarge> {
        if ids.is_empty() {
            return Ok(());
        }
        let generation = self.generation(writer);
        let place = Place { generation, sequence: writer.next, durable: group.durable };
        // Invariant: a list of numbers cannot refuse to be written into a `Vec`.
        let note = postcard::to_stdvec(ids).unwrap_or_default();
        self.key.seal_note(place, REMOVED, &note, &mut group.bytes)?;
        writer.next += 1;
        Ok(())
    }

    fn generation(&self, writer: &Writer) -> u64 {
        self.marks.generation(writer.current.as_ref().map_or(0, |current| current.number))
    }

    /// Sees to it that there is a file to append to.
    pub(super) fn begin(&self, writer: &mut Writer) -> Result<(), NotKept> {
        if let Some(current) = &writer.current {
            let index = self.index();
            let end = index.segments.get(&current.number).map_or(u64::MAX, |segment| segment.end);
            if end < self.settings.segment_size {
                return Ok(());
            }
        }
        writer.current = None;
        let number = writer.next_file;
        writer.next_file += 1;
        let previous = self.index().segments.last_key_value().map_or((0, 0), |(at, last)| (*at, last.end));
        let page = Page { number, next: writer.next, previous: previous.0, previous_end: previous.1 };
        let name = page::name(number);
        let begun = self.folder.create(&name).and_then(|file| {
            file.write_at(&self.marks.write(&page), 0)?;
            Ok(file)
        });
        let file = begun.map_err(|error| {
            // It holds nothing; where it cannot be removed either, the next start does it.
            let _ = self.folder.remove(&name);
            NotKept::from(error)
        })?;
        self.index().segments.insert(number, Segment::new(Arc::clone(&file), page::PAGE));
        writer.current = Some(Current { number, file, new: true });
        Ok(())
    }

    /// Writes a group, makes it safe, and only then lets it count.
    fn commit(&self, writer: &mut Writer, group: Group) -> Result<(), NotKept> {
        if group.bytes.is_empty() {
            return Ok(());
        }
        let start = self.append(writer, &group)?;
        self.sync(writer)?;
        let Some(current) = &writer.current else { return Err(NotKept::Stopping) };
        group.apply(&mut self.index(), current.number, start);
        Ok(())
    }

    /// Writes a group, without making it safe. Returns where it begins.
    pub(super) fn append(&self, writer: &mut Writer, group: &Group) -> Result<u64, NotKept> {
        let Some(current) = &writer.current else { return Err(NotKept::Stopping) };
        let start = self.index().segments.get(&current.number).map_or(page::PAGE, |segment| segment.end);
        if let Err(error) = current.file.write_at(&group.bytes, start) {
            // A part of it may be there. The next file says that it does not count.
            let (number, new) = (current.number, current.new);
            writer.current = None;
            if new && self.folder.remove(&page::name(number)).is_ok() {
                self.index().forget(number);
            }
            return Err(error.into());
        }
        if let Some(segment) = self.index().segments.get_mut(&current.number) {
            segment.end = start + group.bytes.len() as u64;
        }
        Ok(start)
    }

    pub(super) fn sync(&self, writer: &mut Writer) -> Result<(), NotKept> {
        let Some(current) = &mut writer.current else { return Err(NotKept::Stopping) };
        let synced = current.file.sync().and_then(|()| match current.new {
            true => self.folder.sync(),
            false => Ok(()),
        });
        match synced {
            Ok(()) => {
                current.new = false;
                Ok(())
            }
            Err(error) => Err(writer.fail(error)),
        }
    }

    /// Removes files that nothing needs any more.
    pub(super) fn unlink_unneeded(&self, writer: &mut Writer) -> Result<(), NotKept> {
        if let Some(failed) = &writer.failed {
            return Err(failed.clone());
        }
        loop {
            let Some(number) = self.index().unneeded() else { return Ok(()) };
            // Each for good before the next: a file that removes letters must not be gone before they are.
            let removed = self.folder.remove(&page::name(number)).and_then(|()| self.folder.sync());
            removed.map_err(|error| writer.fail(error))?;
            self.index().forget(number);
        }
    }
}

impl Group {
    pub(super) fn new(writer: &Writer) -> Self {
        Self { durable: writer.next, bytes: Vec::new(), kept: Vec::new(), removed: Vec::new() }
    }

    /// The letters in it.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().map(|kept| kept.id)
    }

    /// Bytes of its records.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What it changes, once it is safe at this place.
    pub(super) fn apply(self, index: &mut Index, file: u64, start: u64) {
        for Kept { id, at: (offset, length), entry } in self.kept {
            let from = entry.as_ref().map(|(entry, sink)| (*entry, sink));
            index.put(id, file, (start + offset, length), from);
        }
        for id in self.removed {
            index.remove(id, file);
        }
    }

    /// What it changes, once it is written.
    pub(super) fn written(mut self) -> Self {
        self.bytes = Vec::new();
        self
    }

    fn withdraw_last(&mut self) {
        if let Some(kept) = self.kept.pop() {
            self.bytes.truncate(usize::try_from(kept.at.0).unwrap_or(usize::MAX));
        }
    }
}

impl Writer {
    /// What is on disk cannot be known any more.
    pub(super) fn fail(&mut self, error: io::Error) -> NotKept {
        self.failed.insert(NotKept::Failed(Arc::new(error))).clone()
    }
}

/// Tells somebody that nothing came of it.
pub(super) fn refuse(job: Job, error: NotKept) {
    match job {
        Job::Keep(_, done) => drop(done.send(Err(error))),
        Job::Remove(_, done) => drop(done.send(Err(error))),
    }
}
