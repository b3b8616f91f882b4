//! From a verified event to an answer: route it, hand it to the lanes, and wait until it is safe.

mod acceptance;
mod memory;
mod redrive;

#[cfg(test)]
mod tests;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use hookbus_core::{
    Envelope, Router, VerifiedEvent,
    route::{Decision, Destination, Unaddressable},
};
use hookbus_journal::Letter;
use smallvec::SmallVec;
use tokio::time::Instant;

#[cfg(test)]
pub(crate) use acceptance::TestTicket;
pub(crate) use acceptance::Ticket;
pub(crate) use redrive::ByLanes;

use crate::{
    config::Order,
    dead_letters::LetterBox,
    lane::{Delivery, Lane},
};
use acceptance::{Acceptance, Slot};
use memory::{Memory, Remembered};

/// How long a dead letter may take to be on disk.
const DEAD_LETTER: Duration = Duration::from_secs(5);

/// Takes verified events over: the promise *durable* is kept here.
#[derive(Debug)]
pub(crate) struct Acceptor {
    router: Router,
    lanes: Vec<Lane>,
    dead_letters: Arc<LetterBox>,
    memory: Memory,
    hasher: RandomState,
}

/// What became of an event that was taken over; each is answered 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Every matched sink has it, or it is a dead letter.
    Accepted,
    /// A re-delivery of what every matched sink has already.
    Duplicate,
    /// No route takes it.
    Ignored,
}

/// The event is not safe everywhere: the sender shall try again.
#[derive(Debug)]
pub(crate) struct NotAccepted {
    /// How long the sender should wait.
    pub(crate) retry_after: Duration,
    /// Why, for logs.
    pub(crate) why: String,
}

/// What of a source matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) ack_timeout: Duration,
    pub(crate) order: Order,
}

impl Acceptor {
    pub(crate) fn new(router: Router, lanes: Vec<Lane>, dead_letters: Arc<LetterBox>) -> Self {
        Self { router, lanes, dead_letters, memory: Memory::default(), hasher: RandomState::new() }
    }

    /// The lanes, in the order of the configured sinks.
    pub(crate) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Takes an event over and waits until it is safe, at most the source's `ack-timeout`.
    ///
    /// A re-delivery joins the first delivery where that is still under way, and goes only where the event is
    /// missing. When the wait is over, what is not sent is withdrawn: after a 503 nothing is published but what was
    /// in flight. The same holds where this future is dropped because the connection ended.
    pub(crate) async fn accept(
        &self,
        event: VerifiedEvent,
        waiting: Waiting,
    ) -> Result<Disposition, NotAccepted> {
        let decision = self.router.route(&event);
        if decision.is_ignored() {
            return Ok(Disposition::Ignored);
        }
        let deadline = Instant::now() + waiting.ack_timeout;
        let Decision { destinations, unaddressable } = decision;
        let (acceptance, again) = self.begin(&event, destinations, waiting, deadline).await?;
        let request = acceptance.request();
        acceptance.resolved(deadline).await;
        request.withdraw();
        if unaddressable.is_empty() && acceptance.all_delivered() {
            self.memory.complete(&acceptance);
            return Ok(if again { Disposition::Duplicate } else { Disposition::Accepted });
        }
        let refused = match self.settle(&event, &acceptance, unaddressable).await {
            Ok(()) => {
                self.memory.complete(&acceptance);
                return Ok(Disposition::Accepted);
            }
            Err(refused) => refused,
        };
        self.memory.settled(&acceptance);
        Err(refused)
    }

    /// Deals with an event that not every destination took: dead letters for what none will ever take. They are
    /// written only where nothing is missing, because a re-delivery tries all the rest again.
    async fn settle(
        &self,
        event: &VerifiedEvent,
        acceptance: &Acceptance,
        unaddressable: Vec<Unaddressable>,
    ) -> Result<(), NotAccepted> {
        let letter = |sink: usize, address, reason, error: &str, attempts| {
            let sink = Arc::clone(self.lanes[sink].name());
            Letter { address, attempts, ..Letter::new(event.clone(), sink, reason, error) }
        };
        let mut letters = Vec::new();
        for (to, slot) in acceptance.slots() {
            let (error, after) = match slot {
                Slot::Delivered => continue,
                Slot::Rejected { error, tries } => {
                    letters.push(letter(
                        to.sink,
                        Some(to.address),
                        error.kind().as_str(),
                        &error.to_string(),
                        tries,
                    ));
                    continue;
                }
                Slot::Queued(error) | Slot::InFlight(error) => (error, Duration::ZERO),
                Slot::Missing { error, after } => (Some(error), after),
            };
            let unanswered =
                || format!("sink `{}`: no confirmation within `ack-timeout`", self.lanes[to.sink].name());
            let why = error.map_or_else(unanswered, |error| error.to_string());
            return Err(NotAccepted { retry_after: after.max(Duration::from_secs(1)), why });
        }
        for lost in unaddressable {
            letters.push(letter(lost.sink, None, "unaddressable", &lost.to_string(), 0));
        }
        for letter in letters {
            let (id, reason) = (letter.event.id().as_str(), &*letter.reason);
            tracing::warn!(sink = %letter.sink, source = event.source(), id, reason, error = %letter.error, "dead letter");
            let kept = tokio::time::timeout(DEAD_LETTER, self.dead_letters.keep(letter)).await;
            let why = match kept {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the dead letter was not on disk in time".to_owned(),
            };
            return Err(NotAccepted { retry_after: Duration::from_secs(30), why });
        }
        Ok(())
    }

    /// Hands the event to the lanes it is missing from. The second value tells whether it is missing nowhere.
    async fn begin(
        &self,
        event: &VerifiedEvent,
        destinations: SmallVec<[Destination; 2]>,
        waiting: Waiting,
        deadline: Instant,
    ) -> Result<(Arc<Acceptance>, bool), NotAccepted> {
        // Each round either begins an acceptance or waits for another one of the same event to end, which it does
        // within its own deadline; ours bounds the wait.
        loop {
            let remembered = self.memory.begin(event, &destinations);
            let (acceptance, fresh) = match remembered {
                Remembered::Begun(acceptance, fresh) => (acceptance, fresh),
                Remembered::UnderWay(other) => {
                    if !other.settled(deadline).await {
                        let why = "an earlier delivery of the same event is still under way".to_owned();
                        return Err(NotAccepted { retry_after: Duration::from_secs(1), why });
                    }
                    self.memory.settled(&other);
                    continue;
                }
            };
            for at in &fresh {
                self.submit(event, &acceptance, *at, waiting.order);
            }
            return Ok((acceptance, fresh.is_empty()));
        }
    }

    fn submit(&self, event: &VerifiedEvent, acceptance: &Arc<Acceptance>, at: usize, order: Order) {
        let destination = acceptance.destination(at);
        let subject = match (order, event.subject()) {
            (Order::Source, _) => Some(None),
            (Order::Subject, Some(subject)) => Some(Some(subject)),
            (Order::Subject, None) => None,
        };
        let group =
            subject.map(|subject| self.hasher.hash_one((&destination.address, event.source(), subject)));
        let lane = &self.lanes[destination.sink];
        let ticket = Ticket::new(acceptance, at);
        let envelope = Envelope::new(event.clone(), destination.address.clone());
        let envelope = match group {
            Some(group) => envelope.in_group(group),
            None => envelope,
        };
        lane.submit(Delivery::new(envelope, ticket));
    }
}
