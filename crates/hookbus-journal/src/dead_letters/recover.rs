//! Opening: reads what is there and takes nothing for granted.

use std::{collections::BTreeMap, io, sync::Arc};

use hookbus_core::record::RecordKey;
use thiserror::Error;

use super::{
    index::{Index, Segment},
    letter::{About, LETTER, REMOVED},
    page::{self, Marks, PAGE, Page, ReadPage},
    scan,
};
use crate::{File, Folder, folder::rewrite, unreadable};

/// The dead letters cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotOpened {
    /// The disk does not do what is needed.
    #[error("cannot {doing} the dead letters: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A newer version of hookbus wrote them.
    #[error("`{file}` has version {version} of the format, which is newer than this program")]
    Newer {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// They were written under another key.
    #[error("`{file}` was written under another key than the one in the folder")]
    OtherKey {
        /// The file.
        file: String,
    },
}

/// What was there when the dead letters were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LettersFound {
    /// Letters.
    pub count: usize,
    /// Bytes of their records.
    pub bytes: u64,
    /// Places where something was written and is not there any more: each has cost one letter or several, or the
    /// note that one was removed.
    pub damaged: usize,
    /// Bytes at the end of the newest file that are no record: what was being written when the last process ended, or
    /// damage that looks like it.
    pub unfinished: u64,
}

/// What comes out of reading all files.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) found: LettersFound,
    /// The next number of a record.
    pub(super) next: u64,
    /// Where the records of the last group in the newest file are, and how long.
    last_group: Vec<(u64, usize)>,
}

pub(super) fn recover(folder: &dyn Folder, key: &RecordKey, marks: &Marks) -> Result<Recovered, NotOpened> {
    let failed = |doing| move |source| NotOpened::Io { doing, source };
    let names = folder.names().map_err(failed("list"))?;
    let mut files = BTreeMap::new();
    for number in names.iter().filter_map(|name| page::number(name)) {
        files.insert(number, Opened::new(folder, number, marks).map_err(failed("read"))?);
    }
    let mut recovery =
        Recovery { index: Index::default(), found: LettersFound::default(), next: 1, last_group: Vec::new() };
    let numbers: Vec<_> = files.keys().copied().collect();
    for (at, number) in numbers.iter().enumerate() {
        let following = numbers.get(at + 1).map(|next| &files[next]);
        let file = &files[number];
        // One that was begun and given up before anything in it counted: the file behind it follows an earlier one.
        let given_up = following.and_then(Opened::page).is_some_and(|page| page.previous < *number);
        // One that was being begun when the last process ended.
        let unborn = following.is_none() && file.length <= PAGE && file.page().is_none();
        let newer = matches!(file.page, ReadPage::Newer(_));
        if (given_up || unborn) && !newer {
            recovery.found.unfinished += if unborn { file.length } else { 0 };
            folder.remove(&page::name(*number)).map_err(failed("tidy"))?;
            continue;
        }
        recovery.file(file, following, key, marks)?;
    }
    let Recovery { index, mut found, next, last_group } = recovery;
    (found.count, found.bytes) = (index.letters.len(), index.live);
    Ok(Recovered { index, found, next, last_group })
}

impl Recovered {
    /// Makes what was read safe: what was only in memory when the last process ended must not count before it is on disk.
    pub(super) fn make_safe(&self, folder: &dyn Folder) -> Result<(), NotOpened> {
        let failed = |doing| move |source| NotOpened::Io { doing, source };
        let Some((_, newest)) = self.index.segments.last_key_value() else { return Ok(()) };
        // After an fsync that failed the system takes it for written, so that another one alone would do nothing.
        for (offset, length) in &self.last_group {
            rewrite(&*newest.file, *offset, *length).map_err(failed("write"))?;
        }
        newest.file.sync().map_err(failed("sync"))?;
        folder.sync().map_err(failed("sync"))
    }
}

/// A file whose first page was looked at.
struct Opened {
    number: u64,
    file: Arc<dyn File>,
    length: u64,
    page: ReadPage,
}

impl Opened {
    fn new(folder: &dyn Folder, number: u64, marks: &Marks) -> io::Result<Self> {
        let file = folder.open(&page::name(number))?;
        let mut bytes = vec![0; PAGE as usize];
        let read = unreadable::read_patiently(&*file, &mut bytes, 0)?;
        let page = marks.read(number, &bytes[..read]);
        Ok(Self { number, length: file.len()?, page, file })
    }

    fn page(&self) -> Option<Page> {
        match self.page {
            ReadPage::Good(page) => Some(page),
            _ => None,
        }
    }
}

struct Recovery {
    index: Index,
    found: LettersFound,
    next: u64,
    /// Where the records of the last group in the file that was read last are, and how long.
    last_group: Vec<(u64, usize)>,
}

impl Recovery {
    fn file(
        &mut self,
        opened: &Opened,
        following: Option<&Opened>,
        key: &RecordKey,
        marks: &Marks,
    ) -> Result<(), NotOpened> {
        let number = opened.number;
        if let ReadPage::Newer(version) = opened.page {
            return Err(NotOpened::Newer { file: page::name(number), version });
        }
        // The file behind it knows where this one ended: what is missing before is lost, what is behind never counted.
        let known_end = following.and_then(Opened::page).filter(|page| page.previous == number);
        let known_end = known_end.map(|page| page.previous_end);
        let end = known_end.unwrap_or(opened.length).min(opened.length);
        self.index.segments.insert(number, Segment::new(Arc::clone(&opened.file), end));
        let (mut records, mut durable) = (0, 0);
        self.last_group.clear();
        let each = |offset, record: &hookbus_core::record::Record<'_>| {
            records += 1;
            let place = record.head().place;
            if std::mem::replace(&mut durable, place.durable) != place.durable {
                self.last_group.clear();
            }
            self.last_group.push((offset, record.head().record_len()));
            self.next = self.next.max(record.head().place.sequence + 1);
            self.record(number, offset, record);
        };
        let scanned = scan::scan(&*opened.file, end, key, marks.generation(number), each)
            .map_err(|source| NotOpened::Io { doing: "read", source })?;
        // Nothing says where the newest one ends: to end it before what cannot be read would let go of letters for good.
        if following.is_none() && scanned.unreadable_end {
            let what = format!("{} cannot be read to its end; nothing was changed", page::name(number));
            return Err(NotOpened::Io { doing: "read", source: std::io::Error::other(what) });
        }
        match opened.page {
            ReadPage::Good(page) => self.next = self.next.max(page.next),
            ReadPage::OtherKey if records == 0 && opened.length > PAGE => {
                return Err(NotOpened::OtherKey { file: page::name(number) });
            }
            _ => self.found.damaged += 1,
        }
        self.found.damaged += scanned.damaged;
        match (known_end, following) {
            (Some(known), _) if scanned.end < known => self.found.damaged += 1,
            (None, None) => self.found.unfinished = opened.length.saturating_sub(scanned.end),
            _ => {}
        }
        if let Some(segment) = self.index.segments.get_mut(&number) {
            segment.end = if known_end.is_some() { end } else { scanned.end };
        }
        Ok(())
    }

    fn record(&mut self, number: u64, offset: u64, record: &hookbus_core::record::Record<'_>) {
        let head = record.head();
        match head.kind {
            LETTER => {
                let Some(about) = About::read(record) else {
                    self.found.damaged += 1;
                    return;
                };
                let sink = Arc::from(about.sink);
                let from = about.entry().map(|entry| (entry, &sink));
                let length = u32::try_from(head.record_len()).unwrap_or(u32::MAX);
                self.index.put(head.place.sequence, number, (offset, length), from);
            }
            REMOVED => match postcard::from_bytes::<Vec<u64>>(record.about()) {
                Ok(ids) => ids.into_iter().for_each(|id| {
                    self.index.remove(id, number);
                }),
                Err(_) => self.found.damaged += 1,
            },
            _ => self.found.damaged += 1,
        }
    }
}
