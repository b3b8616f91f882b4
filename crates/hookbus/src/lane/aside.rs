//! Addresses that were refused, and how they come back. Pure: the clock is passed in.

use std::{collections::HashMap, time::Duration};

use hookbus_core::{Address, SinkError};
use tokio::time::Instant;

use super::backoff;

/// Addresses set aside at once; events of further ones are only delayed.
const MOST: usize = 1024;
/// Addresses asked about at once.
const ASKED: usize = 8;
/// An address that nothing waits for is forgotten after so long.
const FORGET: Duration = Duration::from_mins(10);

/// The addresses of a lane that are set aside.
///
/// Each is asked about by its metadata, with growing waits, for as long as an event waits for it. What metadata can
/// tell differs from bus to bus, so a good answer is not believed before a single event has arrived: an exchange may
/// be there and nothing be bound to it. Until then the address stays aside, and nothing is logged a second time.
#[derive(Debug, Default)]
pub(super) struct Asides {
    pub(super) places: HashMap<Address, Aside>,
}

#[derive(Debug)]
pub(super) struct Aside {
    error: SinkError,
    failures: u32,
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is sent until then, when it is asked about.
    Waiting(Instant),
    /// It is being asked about.
    Asking,
    /// One event may go, when there is one; forgotten then, where there is none.
    Trial(Instant),
}

/// What to do about an address whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask the sink about it.
    Ask(Address),
    /// Let one event through, when there is one.
    Try(Address),
    /// It is of no interest any more.
    Forget(Address),
}

/// What a refused event made of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetAside {
    /// It is aside from now on.
    New,
    /// It was already.
    Already,
    /// There are too many: it is not.
    TooMany,
}

impl Asides {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether this one is aside.
    pub(super) fn contains(&self, place: &Address) -> bool {
        self.places.contains_key(place)
    }

    /// How long this one has been missing: no time, where it is not aside. Where there are too many to know, any time.
    pub(super) fn missing_for(&self, place: &Address, now: Instant) -> Duration {
        match self.places.get(place) {
            Some(aside) => now.saturating_duration_since(aside.since),
            None if self.places.len() >= MOST => Duration::MAX,
            None => Duration::ZERO,
        }
    }

    /// An event for this address was refused.
    pub(super) fn refused(&mut self, place: &Address, error: SinkError, now: Instant) -> SetAside {
        if let Some(aside) = self.places.get_mut(place) {
            // Events that were in flight together count as one failure.
            if matches!(aside.state, State::Trial(_)) {
                aside.fail(error, now);
            }
            return SetAside::Already;
        }
        if self.places.len() >= MOST {
            return SetAside::TooMany;
        }
        let state = State::Waiting(now + backoff::until_probe(1));
        self.places.insert(place.clone(), Aside { error, failures: 1, since: now, state });
        SetAside::New
    }

    /// An event for this address arrived, or was refused for its own sake. True where that brings it back.
    pub(super) fn answered(&mut self, place: &Address) -> bool {
        let tried = self.places.get(place).is_some_and(|aside| matches!(aside.state, State::Trial(_)));
        tried && self.places.remove(place).is_some()
    }

    /// Its metadata was asked for. True where one event may be tried.
    pub(super) fn asked(&mut self, place: &Address, answer: Result<(), SinkError>, now: Instant) -> bool {
        let Some(aside) = self.places.get_mut(place) else { return false };
        match answer {
            Ok(()) => aside.state = State::Trial(now + FORGET),
            Err(error) => aside.fail(error, now),
        }
        matches!(aside.state, State::Trial(_))
    }

    /// What stands in the way of an event for this address, and for how long.
    pub(super) fn obstacle(&self, place: &Address, now: Instant) -> Option<(SinkError, Duration)> {
        let aside = self.places.get(place)?;
        match aside.state {
            State::Waiting(until) => Some((aside.error.clone(), until.saturating_duration_since(now))),
            State::Asking => Some((aside.error.clone(), Duration::ZERO)),
            State::Trial(_) => None,
        }
    }

    /// One whose time has come; `waits` tells whether any event waits for an address.
    pub(super) fn due(&mut self, now: Instant, waits: impl Fn(&Address) -> bool) -> Option<Due> {
        let may_ask = self.may_ask();
        let is_due = |aside: &Aside| aside.wakes(may_ask).is_some_and(|at| at <= now);
        let (place, aside) = self.places.iter_mut().find(|(_, aside)| is_due(aside))?;
        let place = place.clone();
        match aside.state {
            State::Waiting(_) if waits(&place) => {
                aside.state = State::Asking;
                Some(Due::Ask(place))
            }
            State::Waiting(_) => {
                // The next event for it will tell.
                aside.state = State::Trial(now + FORGET);
                Some(Due::Try(place))
            }
            _ => {
                self.places.remove(&place);
                Some(Due::Forget(place))
            }
        }
    }

    /// When the next one's time comes.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let may_ask = self.may_ask();
        self.places.values().filter_map(|aside| aside.wakes(may_ask)).min()
    }

    fn may_ask(&self) -> bool {
        self.places.values().filter(|aside| aside.state == State::Asking).count() < ASKED
    }

    /// Why one of them is aside, if any is.
    pub(super) fn error(&self) -> Option<&SinkError> {
        self.places.values().next().map(|aside| &aside.error)
    }
}

impl Aside {
    fn fail(&mut self, error: SinkError, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting(now + backoff::until_probe(self.failures));
        self.error = error;
    }

    fn wakes(&self, may_ask: bool) -> Option<Instant> {
        match self.state {
            State::Waiting(at) => may_ask.then_some(at),
            State::Trial(at) => Some(at),
            State::Asking => None,
        }
    }
}
