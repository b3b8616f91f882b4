//! What a lane gets from the journal, and what of that waits there.

use std::{io, sync::Arc};

use hookbus_core::{Address, SinkError};
use hookbus_journal::{Backlog, Entry, EntryId, Room};
use tokio::time::Instant;

use crate::metrics::SinkMetrics;

use super::{
    Delivery, FromJournal, JOURNAL_BYTES, JOURNAL_EVENTS, PARKED, Ticket, backoff,
    budget::Budget,
    giving_up::Attempts,
    groups::Groups,
    letters::{GivenUp, Letters},
    parked::{Parked, Stay},
};

/// Entries read again in one go while new ones are waiting, and new ones taken while others are to be read again.
const CHUNK: usize = 256;

/// The way from the journal into a lane.
#[derive(Debug)]
pub(super) struct Intake {
    sink: Arc<str>,
    backlog: Backlog,
    groups: Arc<Groups>,
    /// What the lane holds of the journal.
    window: Arc<Budget>,
    parked: Parked,
    letters: Letters,
    /// How many entries may be read again before new ones are taken.
    again: usize,
    /// How often reading has failed in a row, and when it is tried again.
    failures: u32,
    pause: Option<Instant>,
}

/// What came from the journal.
#[derive(Debug)]
pub(super) enum Came {
    /// New entries.
    New(io::Result<Vec<Entry>>),
    /// An entry that was parked.
    Parked(EntryId, io::Result<Entry>),
    /// An entry that was given up, for its dead letter.
    GivenUp(EntryId, io::Result<Entry>),
    /// The dead letter of this entry is safe.
    Kept(EntryId),
}

/// What to read next.
#[derive(Clone, Copy, Debug)]
enum Next {
    New(Room),
    /// New ones where there are any; else this one again.
    NewOrParked(Room, EntryId),
    Parked(EntryId),
    GivenUp(EntryId),
    Nothing,
}

impl Intake {
    pub(super) fn new(sink: &Arc<str>, from: FromJournal, metrics: &Arc<SinkMetrics>) -> Self {
        let FromJournal { backlog, groups, dead_letters } = from;
        Self {
            sink: Arc::clone(sink),
            backlog,
            groups,
            window: Arc::new(Budget::new(JOURNAL_EVENTS, JOURNAL_BYTES)),
            parked: Parked::default(),
            letters: Letters::new(Arc::clone(sink), dead_letters, Arc::clone(metrics)),
            again: CHUNK,
            failures: 0,
            pause: None,
        }
    }

    /// Waits for what comes next from the journal, within the room there is. May be cancelled.
    pub(super) async fn next(&mut self) -> Came {
        let next = self.choose();
        let Self { backlog, letters, .. } = self;
        let read = async {
            match next {
                Next::New(room) => {
                    backlog.ready().await;
                    Came::New(backlog.take(room).await)
                }
                Next::NewOrParked(room, id) => {
                    let is_ready = tokio::select! {
                        biased;
                        () = backlog.ready() => true,
                        () = std::future::ready(()) => false,
                    };
                    match is_ready {
                        true => Came::New(backlog.take(room).await),
                        false => Came::Parked(id, backlog.again(id).await),
                    }
                }
                Next::Parked(id) => Came::Parked(id, backlog.again(id).await),
                Next::GivenUp(id) => Came::GivenUp(id, backlog.again(id).await),
                Next::Nothing => std::future::pending().await,
            }
        };
        tokio::select! {
            id = letters.kept() => Came::Kept(id),
            came = read => came,
        }
    }

    fn choose(&mut self) -> Next {
        if self.pause.is_some() {
            return Next::Nothing;
        }
        if let Some(id) = self.letters.next() {
            return Next::GivenUp(id);
        }
        let Some((events, bytes)) = self.window.room() else { return Next::Nothing };
        match (self.parked.next(), self.is_full()) {
            (Some(id), false) if self.again == 0 => {
                Next::NewOrParked(Room { events: events.min(CHUNK), bytes }, id)
            }
            (Some(id), _) => Next::Parked(id),
            (None, true) => Next::Nothing,
            (None, false) => Next::New(Room { events, bytes }),
        }
    }

    /// Whether so many entries wait in the journal that no more are taken.
    fn is_full(&self) -> bool {
        self.parked.len() + self.letters.len() >= PARKED
    }

    /// An entry is done with.
    pub(super) fn resolve(&self, id: EntryId) {
        self.backlog.resolve(id);
    }

    /// New entries were asked for: now some may be read again.
    pub(super) fn took_new(&mut self) {
        self.again = CHUNK;
    }

    /// Makes a delivery of a new entry.
    pub(super) fn deliver(&self, entry: Entry) -> Delivery {
        self.delivery(entry, Stay { since: Instant::now(), attempts: Attempts::default() })
    }

    /// Makes a delivery of an entry that was parked.
    pub(super) fn deliver_parked(&mut self, entry: Entry) -> Option<Delivery> {
        self.again = self.again.saturating_sub(1);
        let (_, stay) = self.parked.take()?;
        Some(self.delivery(entry, stay))
    }

    fn delivery(&self, entry: Entry, stay: Stay) -> Delivery {
        let Entry { id, event, address } = entry;
        let charge = Some(self.window.hold(event.size()));
        let envelope = self.groups.envelope(event, address);
        Delivery {
            envelope,
            ticket: Ticket::Journal(id),
            attempts: stay.attempts,
            accepted: stay.since,
            charge,
        }
    }

    /// Whether anything is parked.
    pub(super) fn has_parked(&self) -> bool {
        self.parked.len() > 0
    }

    /// Whether anything is parked for this place.
    pub(super) fn is_parked(&self, place: &Address) -> bool {
        self.parked.contains(place)
    }

    /// Lets a delivery wait in the journal until its place takes events. One that a request waits for cannot.
    pub(super) fn park(&mut self, place: Address, delivery: &Delivery) {
        if let Some(id) = delivery.ticket.entry() {
            self.parked.park(place, id, Stay { since: delivery.accepted, attempts: delivery.attempts });
        }
    }

    /// Entries parked for this place stay there.
    pub(super) fn hold(&mut self, place: &Address) {
        self.parked.hold(place);
    }

    /// One entry parked for this place is read again, to try the place with.
    pub(super) fn want_one(&mut self, place: &Address) {
        self.parked.want_one(place);
    }

    /// All entries parked for this place are read again.
    pub(super) fn want_all(&mut self, place: &Address) {
        self.parked.want_all(place);
    }

    /// Makes a delivery that was given up a dead letter; its entry is resolved once that is safe.
    pub(super) fn give_up(&mut self, id: EntryId, delivery: Delivery, error: SinkError) {
        let Delivery { envelope, attempts, .. } = delivery;
        self.letters.write(GivenUp { id, error, attempts: attempts.all }, envelope.event, envelope.address);
    }

    /// Gives up what is parked for this place and came before `then`.
    pub(super) fn give_up_parked(&mut self, place: &Address, then: Instant, error: &SinkError) {
        for (id, stay) in self.parked.take_older(place, then) {
            self.letters.write_later(GivenUp { id, error: error.clone(), attempts: stay.attempts.all });
        }
    }

    /// Goes on with the dead letter that was waiting for its event.
    pub(super) fn read_given_up(&mut self, entry: Entry) {
        self.letters.read(Some(entry));
    }

    /// The parked entry that is next is damaged or gone.
    pub(super) fn lost_parked(&mut self, id: EntryId) {
        self.parked.take();
        self.lost(id);
    }

    /// The entry whose dead letter is next is damaged or gone.
    pub(super) fn lost_given_up(&mut self, id: EntryId) {
        self.letters.read(None);
        self.lost(id);
    }

    /// It is reported, and holds up nothing.
    fn lost(&self, id: EntryId) {
        tracing::error!(sink = %self.sink, sequence = id.sequence, "an event of the journal is damaged and is lost");
        self.backlog.resolve(id);
    }

    /// The journal was read.
    pub(super) fn readable(&mut self) {
        self.failures = 0;
    }

    /// The journal could not be read: it is tried again after a while.
    pub(super) fn unreadable(&mut self, error: &io::Error) {
        if self.failures == 0 {
            tracing::error!(sink = %self.sink, %error, "the journal cannot be read; it is tried again until it can");
        }
        self.failures = self.failures.saturating_add(1);
        self.pause = Some(Instant::now() + backoff::jittered(self.failures));
    }

    /// When it is tried again to read.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.pause
    }

    /// Does what the clock asks for.
    pub(super) fn wake(&mut self, now: Instant) {
        self.pause = self.pause.filter(|until| *until > now);
    }
}
