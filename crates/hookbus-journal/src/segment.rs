//! A file of records: its first page, its footer, and how its records are read back.

use std::{
    io,
    ops::ControlFlow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use hookbus_core::{
    RecordKey,
    record::{ALIGN, HEAD, Head, MARK as MARK_OF_RECORD, Place, Record, TAG},
};
use memchr::memmem::Finder;
use thiserror::Error;

use crate::{
    folder::{File, Folder},
    format::{self, FOOTER, Footer, HEADER, Header, VERSION},
    unreadable::{self, Unreadable},
};

/// Records begin here; before them is the first page.
pub(crate) const START: u64 = 4096;
/// The first bytes of every segment.
const MARK: [u8; 8] = *b"HOOKBUSJ";
/// Where the sum over the mark, the version and the key's name stands, which anybody can check.
const CHECK_AT: usize = 24;
/// Where the header and the footer stand in the first page.
const HEADER_AT: usize = 64;
const FOOTER_AT: usize = 2048;
/// How much is read at once, of many records and of one.
const READ: usize = 256 << 10;
const READ_ONE: usize = 4 << 10;

/// A segment of the journal.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) header: Header,
    pub(crate) file: Arc<dyn File>,
    /// Once nothing more is appended to it.
    pub(crate) footer: OnceLock<Footer>,
    /// The footer is on disk.
    sealed: AtomicBool,
    unreadable: Unreadable,
}

/// Why a file is no segment of this journal.
#[derive(Debug, Error)]
pub(crate) enum NoSegment {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("format version {0} is newer than this program")]
    Newer(u32),
    #[error("it was written under another key")]
    OtherKey,
    #[error("its first page is damaged")]
    Damaged,
}

/// The name of a segment's file.
pub(crate) fn name(number: u64) -> String {
    format!("{number:010}.segment")
}

/// The number in the name of a segment's file.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment").filter(|digits| digits.len() >= 10)?;
    digits.parse().ok()
}

impl Segment {
    /// Makes a new segment, empty and safe on disk. A file that has its name already is used: of a segment that was let go
    /// of, or one that was half made.
    pub(crate) fn make(
        folder: &dyn Folder,
        key: &RecordKey,
        number: u64,
        header: Header,
    ) -> io::Result<Self> {
        let name = name(number);
        let file = match folder.create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => folder.open(&name)?,
            created => created?,
        };
        let made = file
            .allocate(header.capacity)
            .and_then(|()| file.write_at(&first_page(key, number, &header, None), 0))
            .and_then(|()| file.sync())
            .and_then(|()| folder.sync());
        if let Err(error) = made {
            // Without its records it is of no use to anybody; where that fails too, the next start removes it.
            let _ = folder.remove(&name);
            return Err(error);
        }
        Ok(Self::of(number, header, file))
    }

    fn of(number: u64, header: Header, file: Arc<dyn File>) -> Self {
        let (footer, sealed, unreadable) = Default::default();
        Self { number, header, file, footer, sealed, unreadable }
    }

    /// Opens the segment of this number.
    pub(crate) fn open(folder: &dyn Folder, key: &RecordKey, number: u64) -> Result<Self, NoSegment> {
        let file = folder.open(&name(number))?;
        let mut page = vec![0; START as usize];
        let read = unreadable::read_patiently(&*file, &mut page, 0)?;
        page[read..].fill(0);
        let four = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        // A program is only refused its journal where the page says so beyond doubt.
        let intact = page[..8] == MARK && page[CHECK_AT..CHECK_AT + 8] == check(&page[..CHECK_AT]);
        if intact && four(8) > VERSION {
            return Err(NoSegment::Newer(four(8)));
        }
        let note = |at: usize, kind| {
            let record = key.prove(&page[at..]).ok()?;
            (record.head().kind == kind && record.head().place.generation == number).then_some(record)
        };
        let Some(header) = note(HEADER_AT, HEADER).and_then(|record| format::read::<Header>(record.about()))
        else {
            let other = intact && page[16..CHECK_AT] != key.fingerprint();
            return Err(if other { NoSegment::OtherKey } else { NoSegment::Damaged });
        };
        let footer = note(FOOTER_AT, FOOTER).and_then(|record| format::read::<Footer>(record.about()));
        let sealed = AtomicBool::new(footer.is_some());
        let footer = footer.map(OnceLock::from).unwrap_or_default();
        let segment = Self { footer, sealed, ..Self::of(number, header, file) };
        segment.unreadable.be_patient(true);
        Ok(segment)
    }

    /// A segment whose first page is damaged: its records prove themselves.
    pub(crate) fn without_header(folder: &dyn Folder, number: u64) -> io::Result<Self> {
        let file = folder.open(&name(number))?;
        let header = Header { begun: 0, capacity: file.len()?.max(START) };
        let segment = Self::of(number, header, file);
        segment.unreadable.be_patient(true);
        Ok(segment)
    }

    /// Reading that fails is tried again from now on by whoever asks: others go on meanwhile. While it is opened, nobody
    /// can.
    pub(crate) fn is_open(&self) {
        self.unreadable.be_patient(false);
    }

    /// Whether something behind this place could not be read, and counts as damaged.
    pub(crate) fn has_unreadable_behind(&self, offset: u64) -> bool {
        self.unreadable.has_given_up_behind(offset)
    }

    /// Writes down that nothing more is appended.
    pub(crate) fn seal(&self, key: &RecordKey, footer: Footer) -> io::Result<()> {
        let _ = self.footer.set(footer);
        self.file.write_at(&first_page(key, self.number, &self.header, Some(&footer)), 0)?;
        self.file.sync()?;
        self.sealed.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether its footer is on disk.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Bytes it takes on disk, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.header.capacity
    }

    /// Where its records end, once it is sealed.
    pub(crate) fn end(&self) -> Option<u64> {
        self.footer.get().map(|footer| footer.end)
    }

    /// Shows every record from `from` to `to` that proves, in order, until `visit` breaks off.
    ///
    /// Behind something that is no record it searches on for the next one that proves: at every eighth byte, for a head
    /// of this segment. So one bad record costs no other, and a torn end is just the end.
    pub(crate) fn scan(
        &self,
        key: &RecordKey,
        from: u64,
        to: u64,
        mut visit: impl FnMut(u64, &Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<Scan> {
        // A file that was cut off ends earlier than its records.
        let (wanted, to) = (to, to.min(self.file.len()?));
        let mut reading = Reading::new(self, to, READ);
        let mut scan = Scan { next: from, ..Scan::default() };
        let mut at = from;
        // The last good record before a hole that is being crossed.
        let mut hole: Option<u64> = None;
        while at + (HEAD + TAG) as u64 <= to {
            let Some(record) = reading.record(key, at)? else {
                hole.get_or_insert(at);
                at = reading.next_mark(at + ALIGN as u64)?;
                continue;
            };
            let place = record.head().place;
            if let Some(from) = hole.take() {
                scan.holes.push(Hole { from, to: at, before: scan.last, after: Some(place.sequence) });
            }
            if visit(at, &record).is_break() {
                return Ok(scan);
            }
            at += record.head().record_len() as u64;
            scan.next = at;
            scan.last = Some(place.sequence);
            scan.durable = place.durable;
        }
        if let Some(from) = hole.or((at < wanted).then_some(at)) {
            scan.holes.push(Hole { from, to: wanted, before: scan.last, after: None });
        }
        Ok(scan)
    }

    /// What `read` makes of the record at `at`; nothing where there is none.
    pub(crate) fn read_one<T>(
        &self,
        key: &RecordKey,
        at: u64,
        read: impl FnOnce(&Record<'_>) -> T,
    ) -> io::Result<Option<T>> {
        let end = self.end().unwrap_or(self.header.capacity).min(self.file.len()?);
        if at + (HEAD + TAG) as u64 > end {
            return Ok(None);
        }
        let mut reading = Reading::new(self, end, READ_ONE);
        Ok(reading.record(key, at)?.map(|record| read(&record)))
    }
}

/// What a scan came to.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Behind the last record that was shown, and not broken off at.
    pub(crate) next: u64,
    /// The number of the last record that was shown.
    pub(crate) last: Option<u64>,
    /// What the last record knew to be safe: everything before that number.
    durable: u64,
    /// What was no record, in order.
    holes: Vec<Hole>,
}

/// A part of a segment that holds no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The number of the record before and behind it.
    before: Option<u64>,
    after: Option<u64>,
}

/// What is known of the part of a segment that was scanned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Evidence {
    /// What its records say of each other: the end may be torn.
    Records,
    /// All of it is safe.
    Safe,
    /// What was written down when it was sealed.
    Footer(Footer),
}

impl Evidence {
    /// What is known of records that may be read.
    pub(crate) fn of(segment: &Segment) -> Self {
        segment.footer.get().map_or(Self::Safe, |footer| Self::Footer(*footer))
    }
}

impl Hole {
    /// The first number that is missing, and the one behind the last, where they are known; nothing where none is missing.
    fn missing(&self, end: Option<u64>) -> Option<(Option<u64>, Option<u64>)> {
        let (first, behind) = (self.before.map(|before| before + 1), self.after.or(end.map(|end| end + 1)));
        // Without a record before it nobody knows how many there were: at least one, or the hole would not be.
        (first.is_none() || first != behind).then_some((first, behind))
    }
}

impl Scan {
    /// Whether everything was a record.
    pub(crate) fn is_whole(&self) -> bool {
        self.holes.is_empty()
    }

    /// Holes in which records were that had been acknowledged: with how many at most.
    pub(crate) fn damage(&self, evidence: Evidence) -> impl Iterator<Item = (Hole, u64)> {
        self.holes.iter().filter_map(move |hole| {
            let end = if let Evidence::Footer(footer) = evidence { Some(footer.last_sequence) } else { None };
            let (first, behind) = hole.missing(end)?;
            let acknowledged = match evidence {
                Evidence::Safe => true,
                Evidence::Records => behind.is_some_and(|behind| self.durable > first.unwrap_or(behind)),
                Evidence::Footer(Footer { torn: (from, until), .. }) => {
                    !(first.is_none_or(|first| from <= first)
                        && behind.is_some_and(|behind| from < behind && behind <= until))
                }
            };
            let count = behind.zip(first).map_or(1, |(behind, first)| behind.saturating_sub(first));
            acknowledged.then_some((*hole, count))
        })
    }

    /// What a power cut took of the last group, where that is not known to have been safe: all of it was never accepted.
    pub(crate) fn torn(&self) -> (u64, u64) {
        let holes = self.holes.iter().filter_map(|hole| Some((hole.missing(None)?, hole.after?)));
        let torn = holes.filter_map(|((first, _), behind)| {
            (self.durable <= first.unwrap_or(behind)).then_some((first.unwrap_or(0), behind))
        });
        torn.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))).unwrap_or_default()
    }
}

/// A window over the file of a segment.
struct Reading<'a> {
    segment: &'a Segment,
    to: u64,
    /// How much is read at once.
    window: usize,
    buffer: Vec<u8>,
    start: u64,
    mark: Finder<'static>,
}

impl<'a> Reading<'a> {
    fn new(segment: &'a Segment, to: u64, window: usize) -> Self {
        Self { segment, to, window, buffer: Vec::new(), start: 0, mark: Finder::new(&MARK_OF_RECORD) }
    }

    /// The record at `at`, where it proves.
    fn record(&mut self, key: &RecordKey, at: u64) -> io::Result<Option<Record<'_>>> {
        let generation = self.segment.number;
        let head = Head::read(self.at(at, HEAD)?).filter(|head| head.place.generation == generation);
        // A length that leads behind the end is none: nothing that large is read for it.
        let length = head.map(|head| head.record_len()).filter(|length| at + *length as u64 <= self.to);
        let Some(length) = length else { return Ok(None) };
        Ok(key.prove(self.at(at, length)?).ok())
    }

    /// The first place from `at` on where a record may begin; the end, where there is none. Most of what is no record are
    /// zeros, in which nothing is looked at twice.
    fn next_mark(&mut self, mut at: u64) -> io::Result<u64> {
        while at + (HEAD + TAG) as u64 <= self.to {
            self.at(at, HEAD)?;
            // Invariant: what was just read lies in the buffer.
            let there = &self.buffer[(at - self.start) as usize..];
            let aligned = self.mark.find_iter(there).find(|place| place % ALIGN == 0);
            match aligned {
                Some(place) => return Ok(at + place as u64),
                None if there.len() < HEAD => break,
                None => at += (there.len() / ALIGN * ALIGN) as u64,
            }
        }
        Ok(self.to)
    }

    /// The bytes at `at`, as many as there are of `length`.
    fn at(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let skip = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let there = skip.filter(|skip| skip + length <= self.buffer.len());
        let skip = match there {
            Some(skip) => skip,
            None => {
                let left = usize::try_from(self.to - at).unwrap_or(usize::MAX);
                self.buffer.resize(length.max(self.window).min(left), 0);
                let Segment { file, unreadable, .. } = self.segment;
                let read = unreadable.read_at(&**file, &mut self.buffer, at)?;
                self.buffer.truncate(read);
                self.start = at;
                0
            }
        };
        Ok(&self.buffer[skip..(skip + length).min(self.buffer.len())])
    }
}

fn check(bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(bytes);
    std::array::from_fn(|at| hash.as_bytes()[at])
}

pub(crate) fn first_page(key: &RecordKey, number: u64, header: &Header, footer: Option<&Footer>) -> Vec<u8> {
    let mut page = MARK.to_vec();
    page.extend_from_slice(&VERSION.to_le_bytes());
    page.extend_from_slice(&[0; 4]);
    page.extend_from_slice(&key.fingerprint());
    let check = check(&page);
    page.extend_from_slice(&check);
    let place = Place { generation: number, sequence: 0, durable: 0 };
    let mut content = Vec::new();
    let note = |page: &mut Vec<u8>, at: usize, kind, content: &[u8]| {
        page.resize(at, 0);
        // Invariant: these notes are a few bytes.
        let sealed = key.seal_note(place, kind, content, page);
        debug_assert!(sealed.is_ok());
    };
    format::write(header, &mut content);
    note(&mut page, HEADER_AT, HEADER, &content);
    if let Some(footer) = footer {
        format::write(footer, &mut content);
        note(&mut page, FOOTER_AT, FOOTER, &content);
    }
    page.resize(START as usize, 0);
    page
}
