//! What a lane has to send, in the order it may be sent.

use std::collections::{BTreeMap, HashMap, VecDeque};

use hookbus_core::{Address, Capabilities};
use tokio::time::Instant;

use super::Delivery;

/// The queue of a lane.
///
/// Deliveries of a group stand in line behind each other; a group is `ready` when its first one may be sent, and
/// busy while one of it is in flight. What belongs to no group is ready at once. Addresses that are set aside hold
/// back their own deliveries only.
#[derive(Default)]
pub(super) struct Queue {
    ready: VecDeque<Turn>,
    groups: HashMap<u64, Group>,
    later: BTreeMap<(Instant, u64), Turn>,
    aside: HashMap<Address, Held>,
    turns: u64,
    len: usize,
}

/// A place in line.
enum Turn {
    /// A delivery without a group.
    Single(Delivery),
    /// The first delivery of a group.
    Group(u64),
}

impl Turn {
    fn into_single(self) -> Option<Delivery> {
        match self {
            Self::Single(delivery) => Some(delivery),
            Self::Group(_) => None,
        }
    }
}

/// What goes to an address that is set aside.
#[derive(Default)]
struct Held {
    turns: Vec<Turn>,
    /// One of them may go all the same.
    pass: bool,
}

#[derive(Default)]
struct Group {
    waiting: VecDeque<Delivery>,
    in_flight: bool,
}

impl Group {
    /// Whether nothing is left of it, so that a later delivery begins it anew.
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && !self.in_flight
    }
}

impl Queue {
    /// Deliveries waiting, whatever for.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a new delivery behind all of its group.
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.len += 1;
        let Some(key) = delivery.envelope.group() else {
            return self.ready.push_back(Turn::Single(delivery));
        };
        // A group that exists is ready, waiting for its time, set aside or in flight: it comes when it comes.
        let group = self.groups.entry(key).or_insert_with(|| {
            self.ready.push_back(Turn::Group(key));
            Group::default()
        });
        group.waiting.push_back(delivery);
    }

    /// Takes the next batch: at most `limit` events within what the sink takes, in order. Withdrawn deliveries are
    /// dropped on the way. Groups that are in it are in flight until [`Queue::landed`].
    pub(super) fn take(&mut self, capabilities: &Capabilities, limit: usize) -> Vec<Delivery> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let limit = limit.min(capabilities.batch_events());
        let full =
            |batch: &Vec<Delivery>, bytes: usize| batch.len() >= limit || bytes >= capabilities.batch_bytes();
        while !full(&batch, bytes) {
            let Some(turn) = self.ready.pop_front() else { break };
            let turn = match self.skip_withdrawn(turn) {
                Some(turn) => turn,
                None => continue,
            };
            let Some((address, size)) = self.first(&turn) else { continue };
            let aside = (!self.aside.is_empty()).then(|| address.place());
            let held = aside.as_ref().and_then(|place| self.aside.get_mut(place));
            let passes = held.as_ref().is_some_and(|held| held.pass);
            if let Some(held) = held.filter(|held| !held.pass) {
                held.turns.push(turn);
                continue;
            }
            if !batch.is_empty() && bytes + size > capabilities.batch_bytes() {
                self.ready.push_front(turn);
                break;
            }
            let before = batch.len();
            match turn {
                Turn::Single(delivery) => {
                    self.len -= 1;
                    if delivery.ticket.send() {
                        bytes += size;
                        batch.push(delivery);
                    }
                }
                Turn::Group(key) => bytes += self.take_group(key, capabilities, limit, bytes, &mut batch),
            }
            if let Some(held) = aside.and_then(|place| self.aside.get_mut(&place)).filter(|_| passes) {
                // Not used up by what was withdrawn on the way.
                held.pass = batch.len() == before;
            }
        }
        batch
    }

    /// Takes the first delivery of a group, or several where the sink accepts no later one after a failure.
    fn take_group(
        &mut self,
        key: u64,
        capabilities: &Capabilities,
        limit: usize,
        before: usize,
        batch: &mut Vec<Delivery>,
    ) -> usize {
        let Some(group) = self.groups.get_mut(&key) else { return 0 };
        let mut bytes = 0;
        while let Some(delivery) = group.waiting.front() {
            let size = delivery.envelope.event.body().len();
            let fits = batch.len() < limit
                && (batch.is_empty() || before + bytes + size <= capabilities.batch_bytes());
            if !fits || (group.in_flight && !capabilities.takes_prefix()) {
                break;
            }
            // Invariant: there is a first one.
            let Some(delivery) = group.waiting.pop_front() else { break };
            self.len -= 1;
            if delivery.ticket.send() {
                group.in_flight = true;
                bytes += size;
                batch.push(delivery);
            }
        }
        if group.is_over() {
            self.groups.remove(&key);
        } else if !group.in_flight {
            // None of it was taken: the first was withdrawn just now, and the next one does not fit.
            self.ready.push_front(Turn::Group(key));
        }
        bytes
    }

    /// Tells that a batch came back: `again` are its deliveries that need another try, in their order, each no sooner
    /// than its time; `groups` are all groups that were in it.
    pub(super) fn landed(
        &mut self,
        groups: impl IntoIterator<Item = u64>,
        again: Vec<(Delivery, Option<Instant>)>,
    ) {
        self.len += again.len();
        let mut turns = Vec::new();
        let mut waits = HashMap::new();
        for (delivery, when) in again.into_iter().rev() {
            match delivery.envelope.group() {
                Some(key) => {
                    // The first of a group decides when the group goes on; seen last, because this runs backwards.
                    waits.insert(key, when);
                    self.groups.entry(key).or_default().waiting.push_front(delivery);
                }
                None => turns.push((Turn::Single(delivery), when)),
            }
        }
        for key in groups {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            group.in_flight = false;
            if group.is_over() {
                self.groups.remove(&key);
            } else {
                turns.push((Turn::Group(key), waits.get(&key).copied().flatten()));
            }
        }
        for (turn, when) in turns {
            match when {
                Some(when) => {
                    self.turns += 1;
                    self.later.insert((when, self.turns), turn);
                }
                None => self.ready.push_front(turn),
            }
        }
    }

    /// Holds back what goes to this place.
    pub(super) fn set_aside(&mut self, place: Address) {
        self.aside.entry(place).or_default().pass = false;
    }

    /// Lets one event go to a place that is set aside, now or when there is one.
    pub(super) fn let_one_pass(&mut self, place: &Address) {
        let Some(held) = self.aside.get_mut(place) else { return };
        held.pass = true;
        // All of them, because the first may be withdrawn; those behind the one that goes are held again.
        let turns = std::mem::take(&mut held.turns);
        turns.into_iter().rev().for_each(|turn| self.ready.push_front(turn));
    }

    /// Whether an event may go to this place that is set aside, when there is one.
    pub(super) fn passes(&self, place: &Address) -> bool {
        self.aside.get(place).is_some_and(|held| held.pass)
    }

    /// Takes out what goes to this place and is of the journal.
    pub(super) fn shed(&mut self, place: &Address) -> Vec<Delivery> {
        let goes = |delivery: &Delivery| {
            delivery.ticket.entry().is_some() && delivery.envelope.address.place() == *place
        };
        let (mut shed, mut turns) = (Vec::new(), Vec::new());
        for group in self.groups.values_mut().filter(|group| group.waiting.iter().any(goes)) {
            let (gone, kept) = std::mem::take(&mut group.waiting).into_iter().partition(goes);
            group.waiting = kept;
            shed.extend::<VecDeque<_>>(gone);
        }
        let single = |turn: &Turn| matches!(turn, Turn::Single(delivery) if goes(delivery));
        let (gone, kept) = std::mem::take(&mut self.ready).into_iter().partition(single);
        self.ready = kept;
        turns.extend::<VecDeque<_>>(gone);
        turns.extend(self.later.extract_if(.., |_, turn| single(turn)).map(|(_, turn)| turn));
        if let Some(held) = self.aside.get_mut(place) {
            turns.extend(held.turns.extract_if(.., |turn| single(turn)));
        }
        shed.extend(turns.into_iter().filter_map(Turn::into_single));
        self.purge();
        shed
    }

    /// Lets what goes to this place go again.
    pub(super) fn restore(&mut self, place: &Address) {
        let turns = self.aside.remove(place).unwrap_or_default().turns;
        turns.into_iter().rev().for_each(|turn| self.ready.push_front(turn));
    }

    /// Whether anything waits for this place.
    pub(super) fn waits_for(&self, place: &Address) -> bool {
        self.aside.get(place).is_some_and(|held| !held.turns.is_empty())
    }

    /// Makes ready what has waited long enough.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            self.ready.push_back(entry.remove());
        }
    }

    /// When something becomes ready by itself.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((when, _), _)| *when)
    }

    /// Whether anything could be sent now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Drops what its request withdrew, so that it holds no room.
    pub(super) fn purge(&mut self) {
        let Self { ready, groups, later, aside, len, .. } = self;
        groups
            .values_mut()
            .for_each(|group| group.waiting.retain(|delivery| !delivery.ticket.is_withdrawn()));
        let keep = |turn: &Turn| match turn {
            Turn::Single(delivery) => !delivery.ticket.is_withdrawn(),
            Turn::Group(key) => groups.get(key).is_some_and(|group| !group.is_over()),
        };
        ready.retain(keep);
        later.retain(|_, turn| keep(turn));
        aside.values_mut().for_each(|held| held.turns.retain(keep));
        groups.retain(|_, group| !group.is_over());
        let held = || aside.values().flat_map(|held| &held.turns);
        let turns = || ready.iter().chain(later.values()).chain(held());
        *len = groups.values().map(|group| group.waiting.len()).sum::<usize>()
            + turns().filter(|turn| matches!(turn, Turn::Single(_))).count();
    }

    /// Empties the queue, for the end.
    pub(super) fn drain(&mut self) -> Vec<Delivery> {
        let Self { ready, groups, later, aside, .. } = std::mem::take(self);
        let held = aside.into_values().flat_map(|held| held.turns);
        let turns = ready.into_iter().chain(later.into_values()).chain(held);
        let singles = turns.filter_map(Turn::into_single);
        singles.chain(groups.into_values().flat_map(|group| group.waiting)).collect()
    }

    /// Drops withdrawn deliveries from the head of a turn; nothing is left of a turn without any other.
    fn skip_withdrawn(&mut self, turn: Turn) -> Option<Turn> {
        match &turn {
            Turn::Single(delivery) if delivery.ticket.is_withdrawn() => {
                self.len -= 1;
                None
            }
            Turn::Single(_) => Some(turn),
            Turn::Group(key) => {
                let group = self.groups.get_mut(key)?;
                while group.waiting.front().is_some_and(|delivery| delivery.ticket.is_withdrawn()) {
                    group.waiting.pop_front();
                    self.len -= 1;
                }
                if group.is_over() {
                    self.groups.remove(key);
                    return None;
                }
                Some(turn)
            }
        }
    }

    fn first(&self, turn: &Turn) -> Option<(Address, usize)> {
        let delivery = match turn {
            Turn::Single(delivery) => delivery,
            Turn::Group(key) => self.groups.get(key)?.waiting.front()?,
        };
        Some((delivery.envelope.address.clone(), delivery.envelope.event.body().len()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hookbus_core::{
        Envelope, Router,
        route::{Route, Target},
    };
    use hookbus_testkit::{TestEvent, event};

    use super::*;
    use crate::accept::{RequestTicket, TestTicket};

    fn delivery(body: Vec<u8>, group: u64) -> (Delivery, TestTicket) {
        let to = vec![Target::new(0, Vec::new())];
        let route = Route { name: "all".into(), sources: Vec::new(), types: Vec::new(), to };
        let router = Router::new([Arc::from("fastpix")], &[route]).unwrap();
        let address = router.route(&TestEvent::new("fastpix").build()).destinations[0].address.clone();
        let (ticket, view) = RequestTicket::for_test(address.clone());
        let envelope = Envelope::new(event("fastpix", body), address).in_group(group);
        (Delivery::new(envelope, ticket), view)
    }

    #[test]
    fn a_group_whose_next_event_does_not_fit_keeps_its_turn() {
        let capabilities = Capabilities::new().max_batch_bytes(100);
        let mut queue = Queue::default();
        let ((first, withdrawn), (second, waiting)) =
            (delivery(vec![b'1'; 10], 1), delivery(vec![b'2'; 90], 1));
        queue.push(first);
        queue.push(second);
        // The turn is taken and looked at, and only then is its first event withdrawn.
        assert!(matches!(queue.ready.pop_front(), Some(Turn::Group(1))));
        withdrawn.withdraw();
        let mut batch = vec![delivery(vec![b'0'; 50], 2).0];
        assert_eq!(queue.take_group(1, &capabilities, 10, 50, &mut batch), 0);
        assert!(queue.has_ready(), "nobody else would give it a turn");
        assert_eq!(queue.take(&capabilities, 10).len(), 1);
        assert_eq!((waiting.now(), queue.len()), ("in flight", 0));
    }
}
