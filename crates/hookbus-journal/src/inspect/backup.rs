//! A copy of a data folder that opens as one.
//!
//! Everything is copied, never linked: the file of a segment is used again for a later one, in place.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::Path,
    sync::Arc,
};

use hookbus_core::RecordKey;

use super::{InspectError, running::is_there};
use crate::{
    DeadLetters, File, Folder, Journal, RealFolder, dead_letters, dedup,
    engine::Engine,
    format::{Footer, Location},
    segment::{self, START, Segment},
};

/// Bytes copied at once.
const STEP: usize = 1 << 20;
/// How often it is begun again where segments went meanwhile.
const TRIES: usize = 5;

/// Who has the folder open, where somebody does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Running<'a> {
    /// The journal in it.
    pub journal: Option<&'a Journal>,
    /// The dead letters in it.
    pub letters: Option<&'a DeadLetters>,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies a data folder to `to`, safe on disk when it returns. The key is in it, with mode 0600, and so are all events.
/// Blocks.
///
/// What is accepted while it runs may be missing; what is delivered while it runs may be delivered again from the copy.
///
/// # Errors
/// [`InspectError`]; what is at `to` then is no backup: without `key` it does not open.
pub fn backup(
    folder: &Arc<dyn Folder>,
    key: &RecordKey,
    running: Running<'_>,
    to: &Path,
) -> Result<BackedUp, InspectError> {
    let target = RealFolder::open(to)?;
    if !target.names()?.is_empty() {
        return Err(InspectError::NotEmpty);
    }
    let mut copy = Copying { folder: &**folder, key, target, cut: u64::MAX, done: BackedUp::default() };
    let letters = match running.journal.map(Journal::engine) {
        Some(engine) => copy.running(engine, running.letters)?,
        None => {
            copy.segments_at_rest()?;
            running.letters.map(|letters| letters.hold(|| letters.files()))
        }
    };
    match letters {
        Some(files) => {
            for (name, file, end) in files {
                copy.file(&name, &*file, 0, end, None)?;
            }
        }
        None => copy.all(dead_letters::is_letters)?,
    }
    // Those of later segments know events that are not in the copy.
    let cut = copy.cut;
    copy.all(|name| dedup::table(name).is_some_and(|segment| segment < cut))?;
    copy.all(|name| name == "format")?;
    // Last, as nothing opens without it.
    copy.target.sync()?;
    copy.all(|name| name == "key")?;
    copy.target.sync()?;
    Ok(copy.done)
}

/// Files of letters: their names, and where in them what counts ends.
type Letters = Vec<(String, Arc<dyn File>, u64)>;

struct Copying<'a> {
    folder: &'a dyn Folder,
    key: &'a RecordKey,
    target: RealFolder,
    /// The segment that is copied in part, where one is.
    cut: u64,
    done: BackedUp,
}

impl Copying<'_> {
    /// Copies a journal that goes on meanwhile, up to what was safe at one moment, and says which letters there were then.
    fn running(
        &mut self,
        engine: &Engine,
        letters: Option<&DeadLetters>,
    ) -> Result<Option<Letters>, InspectError> {
        let mut copied: BTreeMap<u64, Arc<Segment>> = BTreeMap::new();
        for _ in 0..TRIES {
            // Most of it first, as long as that takes; then what has come since.
            for (segment, footer) in sealed(engine) {
                if let Entry::Vacant(new) = copied.entry(segment.number) {
                    self.segment(&segment, footer.end, Some(&footer))?;
                    new.insert(segment);
                }
            }
            for (number, _) in copied.extract_if(.., |_, segment| !is_there(engine, segment)) {
                self.take_back(&segment::name(number))?;
            }
            // While none is kept or removed: what left the journal for the letters by then, or the other way, is in both
            // or where it went.
            let moment = || (letters.map(DeadLetters::files), moment(engine));
            let (files, (safe, segments)) = match letters {
                Some(letters) => letters.hold(moment),
                None => moment(),
            };
            let mut late = Vec::new();
            for segment in segments.into_iter().filter(|segment| !copied.contains_key(&segment.number)) {
                match segment.footer.get() {
                    Some(footer) if segment.number < safe.segment => {
                        self.segment(&segment, footer.end, Some(footer))?;
                    }
                    _ => self.segment(&segment, safe.offset, None)?,
                }
                late.push(segment);
            }
            if late.iter().all(|segment| is_there(engine, segment)) {
                self.cut = safe.segment;
                return Ok(files);
            }
            for segment in late {
                self.take_back(&segment::name(segment.number))?;
            }
        }
        Err(InspectError::TooFast)
    }

    fn segments_at_rest(&mut self) -> Result<(), InspectError> {
        for number in self.folder.names()?.iter().filter_map(|name| segment::number(name)) {
            let opened = Segment::open(self.folder, self.key, number).ok();
            let sealed = opened.and_then(|segment| Some((*segment.footer.get()?, segment)));
            match sealed {
                Some((footer, segment)) => self.segment(&segment, footer.end, Some(&footer))?,
                // As it is: the next start reads it whole.
                None => self.all(|name| segment::number(name) == Some(number))?,
            }
        }
        Ok(())
    }

    /// Copies a segment up to `end`.
    fn segment(&mut self, segment: &Segment, end: u64, footer: Option<&Footer>) -> io::Result<()> {
        let page = segment::first_page(self.key, segment.number, &segment.header, footer);
        self.file(&segment::name(segment.number), &*segment.file, START, end, Some(&page))
    }

    /// Copies all files with such names.
    fn all(&mut self, of: impl Fn(&str) -> bool) -> io::Result<()> {
        for name in self.folder.names()?.into_iter().filter(|name| of(name)) {
            match self.folder.open(&name) {
                Ok(file) => self.file(&name, &*file, 0, file.len()?, None)?,
                // It went while the folder was read: nothing needs it any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Copies a file from `from` to `end`, behind a first page of its own where there is one.
    fn file(
        &mut self,
        name: &str,
        file: &dyn File,
        from: u64,
        end: u64,
        page: Option<&[u8]>,
    ) -> io::Result<()> {
        let copy = self.target.create(name)?;
        if let Some(page) = page {
            copy.write_at(page, 0)?;
        }
        let (mut at, mut buffer) = (from, vec![0; STEP]);
        while at < end {
            let wanted = STEP.min(usize::try_from(end - at).unwrap_or(STEP));
            let read = file.read_at(&mut buffer[..wanted], at)?;
            if read == 0 {
                break;
            }
            copy.write_at(&buffer[..read], at)?;
            at += read as u64;
        }
        copy.sync()?;
        self.done.files += 1;
        self.done.bytes += at;
        Ok(())
    }

    fn take_back(&mut self, name: &str) -> io::Result<()> {
        self.done.bytes -= self.target.open(name)?.len()?;
        self.done.files -= 1;
        self.target.remove(name)
    }
}

/// The segments that are sealed and safe.
fn sealed(engine: &Engine) -> Vec<(Arc<Segment>, Footer)> {
    let durable = engine.open().durable;
    let segments = engine.store.segments();
    let footer = |segment: &Arc<Segment>| Some((Arc::clone(segment), *segment.footer.get()?));
    segments.values().filter_map(footer).filter(|(_, footer)| footer.last_sequence < durable).collect()
}

/// Where what is safe ends now, and the segments up to there.
fn moment(engine: &Engine) -> (Location, Vec<Arc<Segment>>) {
    let safe = engine.open().safe;
    let segments = engine.store.segments();
    (safe, segments.range(..=safe.segment).map(|(_, segment)| Arc::clone(segment)).collect())
}
