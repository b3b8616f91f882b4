//! The files of one source: new requests at the end, the oldest file goes when there is no room or its time is over.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use hookbus_journal::{File, Folder};

use super::frame;

/// Files of a source. A restart begins a new one, so that no file has to be read at the start.
const MOST_FILES: usize = 64;
/// Records of a file: what the lower half of an id has room for.
const MOST_RECORDS: u32 = 1 << 16;
/// How files end.
const SUFFIX: &str = ".rejected";

/// What a ring may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Bytes of all files.
    max_size: u64,
    /// Bytes of a file.
    file_size: u64,
    /// How old a record becomes.
    pub(super) retention: Duration,
}

impl Bounds {
    pub(super) fn new(max_size: u64, retention: Duration) -> Self {
        Self { max_size, file_size: (max_size / 16).clamp(64 << 10, 4 << 20), retention }
    }

    /// How much time a file covers: it goes as a whole, when its first record is too old.
    pub(super) fn span(&self) -> Duration {
        self.retention / 8
    }

    fn is_over(&self, created: u64, now: u64) -> bool {
        let age = Duration::from_millis(now.abs_diff(created));
        // One from a future that far has been made by another clock.
        age >= self.retention
    }
}

/// What a file's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) source: Arc<str>,
    /// No two files have the same, whatever their source, and a later one has a higher one.
    pub(super) number: u32,
    /// When it was begun, in milliseconds since 1970.
    pub(super) created: u64,
}

impl Name {
    /// Reads a name; nothing where it is of another kind of file.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(SUFFIX)?.split('.');
        let (source, number, created) = (parts.next()?, parts.next()?, parts.next()?);
        let parsed = Self {
            source: source.into(),
            number: u32::from_str_radix(number, 16).ok()?,
            created: u64::from_str_radix(created, 16).ok()?,
        };
        // One spelling only, so that what is removed is what was found.
        (parsed.text() == name).then_some(parsed)
    }

    /// As it stands in the folder.
    pub(super) fn text(&self) -> String {
        format!("{}.{:08x}.{:012x}{SUFFIX}", self.source, self.number, self.created)
    }
}

/// The files of one source.
#[derive(Debug)]
pub(super) struct Ring {
    source: Arc<str>,
    /// The oldest first.
    files: VecDeque<Kept>,
    /// The last file, where this process has begun it.
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Kept {
    name: Name,
    bytes: u64,
}

#[derive(Debug)]
struct Writing {
    file: Arc<dyn File>,
    records: u32,
}

impl Ring {
    pub(super) fn new(source: Arc<str>) -> Self {
        Self { source, files: VecDeque::new(), writing: None }
    }

    /// A file that is there from before, with so many bytes.
    pub(super) fn found(&mut self, name: Name, bytes: u64) {
        let at = self.files.partition_point(|file| file.name.number < name.number);
        self.files.insert(at, Kept { name, bytes });
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Keeps a record. A new file takes the number `next`. Returns how many bytes were written.
    ///
    /// # Errors
    /// As the system says; then the record is not kept, and the files take no more than they may.
    pub(super) fn write(
        &mut self,
        folder: &dyn Folder,
        bounds: &Bounds,
        next: &mut u32,
        now: u64,
        record: &[u8],
    ) -> io::Result<u64> {
        let size = record.len() as u64;
        self.expire(folder, bounds, now)?;
        if !self.takes(bounds, now, size) {
            self.writing = None;
        }
        let begin = if self.writing.is_none() { frame::BEGIN.len() as u64 } else { 0 };
        self.make_room(folder, bounds, begin + size)?;
        if self.writing.is_none() {
            self.begin(folder, next, now)?;
        }
        let (Some(Writing { file, records }), Some(kept)) = (&mut self.writing, self.files.back_mut()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Err(error) = file.write_at(record, kept.bytes) {
            // Part of it may be there: that is taken away, or else counted, and nothing is written behind it.
            let _ = file.truncate(kept.bytes);
            kept.bytes = file.len().unwrap_or(kept.bytes + size);
            self.writing = None;
            return Err(error);
        }
        kept.bytes += size;
        *records += 1;
        Ok(begin + size)
    }

    /// Removes what is too old.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn expire(&mut self, folder: &dyn Folder, bounds: &Bounds, now: u64) -> io::Result<()> {
        while let Some(at) = self.files.iter().position(|file| bounds.is_over(file.name.created, now)) {
            self.remove(folder, at)?;
        }
        Ok(())
    }

    /// Removes files until so many bytes fit in, and one more file.
    ///
    /// # Errors
    /// As the system says; where a file cannot be removed there is no room.
    pub(super) fn make_room(&mut self, folder: &dyn Folder, bounds: &Bounds, size: u64) -> io::Result<()> {
        while self.bytes() + size > bounds.max_size
            || (self.files.len() >= MOST_FILES && self.writing.is_none())
        {
            if self.files.is_empty() {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            self.remove(folder, 0)?;
        }
        Ok(())
    }

    /// Whether the file that is being written takes a record of this size.
    fn takes(&self, bounds: &Bounds, now: u64, size: u64) -> bool {
        let (Some(writing), Some(kept)) = (&self.writing, self.files.back()) else { return false };
        let age = Duration::from_millis(now.abs_diff(kept.name.created));
        kept.bytes + size <= bounds.file_size && writing.records < MOST_RECORDS && age < bounds.span()
    }

    fn begin(&mut self, folder: &dyn Folder, next: &mut u32, now: u64) -> io::Result<()> {
        let name = Name { source: Arc::clone(&self.source), number: *next, created: now };
        *next = next.checked_add(1).ok_or(io::ErrorKind::QuotaExceeded)?;
        let file = folder.create(&name.text())?;
        // It is there from now on, and has to go some day, whatever happens to it.
        self.files.push_back(Kept { name, bytes: frame::BEGIN.len() as u64 });
        file.write_at(frame::BEGIN, 0)?;
        self.writing = Some(Writing { file, records: 0 });
        Ok(())
    }

    fn remove(&mut self, folder: &dyn Folder, at: usize) -> io::Result<()> {
        match folder.remove(&self.files[at].name.text()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if at + 1 == self.files.len() {
            self.writing = None;
        }
        self.files.remove(at);
        Ok(())
    }
}
