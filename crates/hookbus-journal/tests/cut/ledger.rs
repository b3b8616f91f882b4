//! What a test knows of the events it has sent: which of them must come, and which must not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use hookbus_core::{Address, VerifiedEvent};
use hookbus_journal::{Destination, Entry, EntryId};

use super::Dice;
use crate::rig;

/// An event on its way to one address of a sink: which event, and which of its destinations.
pub(crate) type Delivery = (usize, usize);

/// Everything that was sent and what became of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    sent: Vec<Sent>,
    /// Sinks have said that these are done.
    resolved: BTreeMap<Delivery, Instant>,
    /// These were, before the power went: they may come again or not.
    uncertain: BTreeSet<Delivery>,
    /// These must be on disk as done.
    noted: BTreeSet<Delivery>,
    /// Resolved before the event whose acceptance settles it was sent.
    settling: Vec<Delivery>,
}

#[derive(Clone, Debug)]
struct Sent {
    event: VerifiedEvent,
    to: Vec<usize>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It may be there or not.
    Unknown,
    Accepted,
    Refused,
}

/// Longer than resolved entries wait to be noted with the next group.
const NOTED_WITHIN: Duration = Duration::from_millis(20);

impl Ledger {
    /// A new event for some of the sinks.
    pub(crate) fn send(
        &mut self,
        dice: &mut Dice,
        sinks: usize,
        largest: usize,
    ) -> (usize, Vec<Destination>) {
        let to = (0..=dice.below(3)).map(|_| dice.below(sinks)).collect();
        self.send_to(to, 150 + dice.magnitude(largest))
    }

    /// A new event of so many bytes for these sinks.
    pub(crate) fn send_to(&mut self, to: Vec<usize>, bytes: usize) -> (usize, Vec<Destination>) {
        let number = self.sent.len();
        let event = rig::event(&format!("e{number}"), bytes);
        let destination =
            |(at, sink): (usize, &usize)| Destination { sink: *sink, address: address(number, at) };
        let destinations = to.iter().enumerate().map(destination).collect();
        self.sent.push(Sent { event, to, fate: Fate::Unknown });
        (number, destinations)
    }

    pub(crate) fn event(&self, number: usize) -> VerifiedEvent {
        self.sent[number].event.clone()
    }

    pub(crate) fn is(&mut self, number: usize, fate: Fate) {
        self.sent[number].fate = fate;
    }

    /// An event is about to be sent and waited for alone: what was resolved long before it is noted when it is accepted.
    pub(crate) fn settle(&mut self) {
        let now = Instant::now();
        let long = |at: &Instant| now.duration_since(*at) > NOTED_WITHIN;
        let resolved = self.resolved.iter().filter(|(_, at)| long(at));
        self.settling = resolved.map(|(delivery, _)| *delivery).collect();
    }

    /// That event was accepted.
    pub(crate) fn settled(&mut self) {
        self.noted.extend(std::mem::take(&mut self.settling));
    }

    /// The power went.
    pub(crate) fn cut(&mut self) {
        let noted = &self.noted;
        let resolved = std::mem::take(&mut self.resolved);
        self.uncertain.extend(resolved.into_keys().filter(|delivery| !noted.contains(delivery)));
        self.settling.clear();
    }

    /// The journal was closed in order.
    pub(crate) fn closed(&mut self) {
        self.noted.extend(self.resolved.keys());
    }

    pub(crate) fn resolve(&mut self, delivery: Delivery) {
        self.resolved.insert(delivery, Instant::now());
    }

    /// Which delivery an entry is, when it is as it should be.
    pub(crate) fn recognise(&mut self, sink: usize, entry: &Entry) -> Delivery {
        let number = entry.event.id().as_str().strip_prefix('e').and_then(|number| number.parse().ok());
        let number: usize = number.expect("an event that was sent");
        let sent = self.sent.get_mut(number).expect("an event that was sent");
        assert_ne!(sent.fate, Fate::Refused, "e{number} was refused");
        // Handed out, so it is safe, and may not get lost any more.
        sent.fate = Fate::Accepted;
        assert_same(&sent.event, &entry.event);
        let delivery = (number, usize::from(entry.id.destination));
        assert_eq!(entry.address, address(delivery.0, delivery.1), "e{number} has its address");
        assert_eq!(sent.to.get(delivery.1), Some(&sink), "e{number} is for its sink");
        assert!(!self.noted.contains(&delivery), "{delivery:?} was noted as resolved and came again");
        self.uncertain.remove(&delivery);
        delivery
    }

    /// What a sink must still get.
    pub(crate) fn missing(&self, sink: usize, there: &BTreeSet<Delivery>) -> Vec<Delivery> {
        let accepted = self.sent.iter().enumerate().filter(|(_, sent)| sent.fate == Fate::Accepted);
        let all = accepted.flat_map(|(number, sent)| {
            let mine = sent.to.iter().enumerate().filter(move |(_, to)| **to == sink);
            mine.map(move |(at, _)| (number, at))
        });
        let done = |delivery: &Delivery| {
            let noted = self.noted.contains(delivery) || self.uncertain.contains(delivery);
            noted || self.resolved.contains_key(delivery)
        };
        all.filter(|delivery| !there.contains(delivery) && !done(delivery)).collect()
    }
}

/// The address of one delivery.
fn address(number: usize, at: usize) -> Address {
    Address::from_parts([("topic", format!("t{at}").as_str()), ("key", format!("k{number}").as_str())], 1)
}

/// Nothing of an event has changed.
pub(crate) fn assert_same(sent: &VerifiedEvent, got: &VerifiedEvent) {
    assert_eq!(sent.body(), got.body());
    assert_eq!((sent.source(), sent.id()), (got.source(), got.id()));
    assert_eq!(
        (sent.event_type(), sent.subject(), sent.time()),
        (got.event_type(), got.subject(), got.time())
    );
    assert_eq!(sent.received(), got.received());
    assert_eq!(sent.proof_headers().collect::<Vec<_>>(), got.proof_headers().collect::<Vec<_>>());
    assert_eq!(sent.content_type(), got.content_type());
    assert_eq!(sent.unsigned_attributes(), got.unsigned_attributes());
}

/// Entries of one sink since it was opened come in the order they were accepted in.
#[derive(Debug, Default)]
pub(crate) struct InOrder {
    last: Option<EntryId>,
    last_delivery: Option<Delivery>,
}

impl InOrder {
    pub(crate) fn check(&mut self, entry: &Entry, delivery: Delivery) {
        assert!(self.last < Some(entry.id), "{:?} comes behind {:?}", entry.id, self.last);
        assert!(self.last_delivery < Some(delivery), "{delivery:?} comes behind {:?}", self.last_delivery);
        (self.last, self.last_delivery) = (Some(entry.id), Some(delivery));
    }
}
