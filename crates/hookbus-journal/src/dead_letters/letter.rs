//! A dead letter, and how it stands in a record.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hookbus_core::{
    Address, VerifiedEvent,
    record::{Kind, NotRestored, Record},
};
use serde::{Deserialize, Serialize};

use crate::{EntryId, address_note::AddressNote};

/// Records that hold a letter.
pub(super) const LETTER: Kind = Kind::event(2);
/// Records that list letters which were removed.
pub(super) const REMOVED: Kind = Kind::note(16);
/// Bytes of an error's text that are kept.
const MAX_ERROR: usize = 4 << 10;

/// An event that no try could deliver, and why.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The event.
    pub event: VerifiedEvent,
    /// Name of the sink it should have gone to.
    pub sink: Arc<str>,
    /// Where in the sink; nothing where no valid address could be rendered.
    pub address: Option<Address>,
    /// The kind of error in one word, such as `too-large`.
    pub reason: Box<str>,
    /// The error for a person. At most 4 KiB of it are kept.
    pub error: Box<str>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub given_up: SystemTime,
    /// Which entry of the journal it was, if it came from there.
    pub entry: Option<EntryId>,
}

impl Letter {
    /// A letter given up now, tried never and nowhere; the fields say the rest.
    pub fn new(event: VerifiedEvent, sink: Arc<str>, reason: &str, error: &str) -> Self {
        Self {
            event,
            sink,
            address: None,
            reason: reason.into(),
            error: error.into(),
            attempts: 0,
            given_up: SystemTime::now(),
            entry: None,
        }
    }

    /// Bytes it takes on disk, at most.
    pub(super) fn size(&self) -> u64 {
        let address = self.address.as_ref().map_or(0, AddressNote::size);
        let about = self.sink.len() + address + self.reason.len() + self.error.len().min(MAX_ERROR);
        (self.event.size() + about + 512) as u64
    }

    /// What stands beside the event.
    pub(super) fn about(&self, id: u64) -> Vec<u8> {
        let since = self.given_up.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let about = About {
            id,
            sink: &self.sink,
            address: self.address.as_ref().map(AddressNote::new),
            reason: &self.reason,
            error: &self.error[..self.error.floor_char_boundary(MAX_ERROR)],
            attempts: self.attempts,
            given_up: (since.as_secs(), since.subsec_nanos()),
            entry: self.entry.map(|entry| (entry.sequence, entry.destination)),
        };
        // Invariant: neither the type nor a `Vec` as the place it goes to can refuse.
        postcard::to_stdvec(&about).unwrap_or_default()
    }

    /// The letter of a record.
    pub(super) fn read(record: &Record<'_>) -> Result<Self, NotRestored> {
        let about = About::read(record).ok_or(NotRestored::Unreadable)?;
        let event = VerifiedEvent::restore(record)?;
        let (seconds, nanos) = about.given_up;
        let given_up = UNIX_EPOCH.checked_add(Duration::new(seconds, nanos.min(999_999_999)));
        Ok(Self {
            event,
            sink: about.sink.into(),
            address: about.address.as_ref().map(AddressNote::address),
            reason: about.reason.into(),
            error: about.error.into(),
            attempts: about.attempts,
            given_up: given_up.ok_or(NotRestored::Unreadable)?,
            entry: about.entry(),
        })
    }
}

/// What stands beside the event, borrowed both ways. Changing it changes the format.
#[derive(Serialize, Deserialize)]
pub(super) struct About<'a> {
    id: u64,
    #[serde(borrow)]
    pub(super) sink: &'a str,
    #[serde(borrow)]
    address: Option<AddressNote<'a>>,
    reason: &'a str,
    error: &'a str,
    attempts: u32,
    /// Seconds and nanoseconds since 1970.
    given_up: (u64, u32),
    entry: Option<(u64, u16)>,
}

impl<'a> About<'a> {
    /// Reads what a record says of its letter. The letter's id is also the record's number.
    pub(super) fn read(record: &Record<'a>) -> Option<Self> {
        let about: Self = postcard::from_bytes(record.about()).ok()?;
        (record.head().kind == LETTER && about.id == record.head().place.sequence).then_some(about)
    }

    pub(super) fn entry(&self) -> Option<EntryId> {
        self.entry.map(|(sequence, destination)| EntryId { sequence, destination })
    }
}

/// What is said of a letter without its event.
#[derive(Clone)]
#[non_exhaustive]
pub struct Summary {
    /// By this it is read and removed.
    pub id: u64,
    /// The sink it should have gone to.
    pub sink: Arc<str>,
    /// Where in the sink.
    pub address: Option<Address>,
    /// The kind of error in one word.
    pub reason: Box<str>,
    /// The error for a person.
    pub error: Box<str>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub given_up: SystemTime,
    /// Which entry of the journal it was.
    pub entry: Option<EntryId>,
    /// The event's source.
    pub source: Box<str>,
    /// The event's id.
    pub event_id: Box<str>,
    /// The event's type.
    pub event_type: Box<str>,
    /// What the event is about.
    pub subject: Option<Box<str>>,
    /// When the event arrived.
    pub received: SystemTime,
    /// Bytes of the event's body.
    pub body_bytes: usize,
}

impl Summary {
    /// What is said of this letter, which has this id.
    pub fn new(id: u64, letter: &Letter) -> Self {
        let event = &letter.event;
        Self {
            id,
            sink: Arc::clone(&letter.sink),
            address: letter.address.clone(),
            reason: letter.reason.clone(),
            error: letter.error.clone(),
            attempts: letter.attempts,
            given_up: letter.given_up,
            entry: letter.entry,
            source: event.source().into(),
            event_id: event.id().as_str().into(),
            event_type: event.event_type().into(),
            subject: event.subject().map(Box::from),
            received: event.received(),
            body_bytes: event.body().len(),
        }
    }
}

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, sink, reason, event_id, .. } = self;
        write!(f, "Summary({id}: `{event_id}` for `{sink}`, {reason})")
    }
}
