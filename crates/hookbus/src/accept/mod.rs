//! From a verified event to an answer: route it, hand it to the lanes, and wait until it is safe.

mod acceptance;
mod journal;
mod memory;
mod redrive;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use hookbus_core::{
    Address, VerifiedEvent,
    route::{Decision, Destination, Unaddressable},
};
use hookbus_journal::{Journal, Letter};
use smallvec::SmallVec;
use tokio::time::Instant;

pub(crate) use acceptance::RequestTicket;
#[cfg(test)]
pub(crate) use acceptance::TestTicket;
pub(crate) use redrive::ByLanes;

use crate::{
    config::{Ack, WhenFull},
    control::Today,
    dead_letters::{LetterBox, log},
    lane::{Delivery, Groups, Lane},
};
use acceptance::{Acceptance, Slot};
use memory::{Memory, Remembered};

/// How long a dead letter may take to be on disk.
const DEAD_LETTER: Duration = Duration::from_secs(5);

/// Takes verified events over: the promise *durable* is kept here.
#[derive(Debug)]
pub(crate) struct Acceptor {
    today: Arc<Today>,
    lanes: Vec<Arc<Lane>>,
    /// What happens to events for a sink that has its `max-pending`, for each sink.
    when_full: Vec<WhenFull>,
    groups: Arc<Groups>,
    dead_letters: Arc<LetterBox>,
    /// Where sources with `ack = "journal"` have theirs kept.
    journal: Option<Journal>,
    memory: Arc<Memory>,
}

/// What became of an event that was taken over; each is answered 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// The journal has it, or every matched sink, or it is a dead letter.
    Accepted,
    /// A re-delivery of what every matched sink has already.
    Duplicate,
    /// No route takes it.
    Ignored,
}

/// The event was not taken over.
#[derive(Debug)]
pub(crate) enum NotAccepted {
    /// It is not safe everywhere: the sender shall try again.
    Now {
        /// How long the sender should wait.
        retry_after: Duration,
        /// Why, for logs.
        why: String,
    },
    /// It is larger than the journal takes, however often it comes.
    TooLarge,
}

impl NotAccepted {
    /// Why, for logs.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Now { why, .. } => why,
            Self::TooLarge => "it is larger than a segment of the journal takes",
        }
    }
}

/// What of a source matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) ack: Ack,
    pub(crate) ack_timeout: Duration,
}

impl Acceptor {
    pub(crate) fn new(
        today: Arc<Today>,
        lanes: Vec<Arc<Lane>>,
        groups: Arc<Groups>,
        dead_letters: Arc<LetterBox>,
        journal: Option<Journal>,
    ) -> Self {
        let (memory, when_full) = (Arc::default(), vec![WhenFull::default(); lanes.len()]);
        Self { today, lanes, when_full, groups, dead_letters, journal, memory }
    }

    /// With this for each sink that has its `max-pending`.
    pub(crate) fn when_full(self, when_full: Vec<WhenFull>) -> Self {
        Self { when_full, ..self }
    }

    /// Another one, which remembers what this one does.
    pub(crate) fn next(&self, today: Arc<Today>, lanes: Vec<Arc<Lane>>, when_full: Vec<WhenFull>) -> Self {
        let (groups, dead_letters) = (Arc::clone(&self.groups), Arc::clone(&self.dead_letters));
        let (journal, memory) = (self.journal.clone(), Arc::clone(&self.memory));
        Self { today, lanes, when_full, groups, dead_letters, journal, memory }
    }

    /// The lanes, by the places of their sinks.
    pub(crate) fn lanes(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    /// Takes an event over and waits until it is safe, at most the source's `ack-timeout`.
    pub(crate) async fn accept(
        &self,
        event: VerifiedEvent,
        waiting: Waiting,
    ) -> Result<Disposition, NotAccepted> {
        let decision = self.today.router.route(&event);
        if decision.is_ignored() {
            return Ok(Disposition::Ignored);
        }
        let deadline = Instant::now() + waiting.ack_timeout;
        match waiting.ack {
            Ack::Journal => self.by_journal(&event, decision, deadline).await,
            Ack::Sinks => self.by_sinks(event, decision, deadline).await,
        }
    }

    /// Takes an event over by its sinks: all of them have it by the deadline, or its dead letter is safe.
    ///
    /// A re-delivery joins the first delivery where that is still under way, and goes only where the event is
    /// missing. When the wait is over, what is not sent is withdrawn: after a 503 nothing is published but what was
    /// in flight. The same holds where this future is dropped because the connection ended.
    async fn by_sinks(
        &self,
        event: VerifiedEvent,
        decision: Decision,
        deadline: Instant,
    ) -> Result<Disposition, NotAccepted> {
        let Decision { destinations, unaddressable } = decision;
        let (acceptance, again) = self.begin(&event, destinations, deadline).await?;
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
        let mut letters = Vec::new();
        for (to, slot) in acceptance.slots() {
            let (error, after) = match slot {
                Slot::Delivered => continue,
                Slot::Rejected { error, tries } => {
                    let (reason, why) = (error.kind().as_str(), error.to_string());
                    letters.push(self.letter(event, to.sink, Some(to.address), reason, &why, tries));
                    continue;
                }
                Slot::Queued(error) | Slot::InFlight(error) => (error, Duration::ZERO),
                Slot::Missing { error, after } => (Some(error), after),
            };
            let unanswered =
                || format!("sink `{}`: no confirmation within `ack-timeout`", self.lanes[to.sink].name());
            let why = error.map_or_else(unanswered, |error| error.to_string());
            return Err(NotAccepted::Now { retry_after: after.max(Duration::from_secs(1)), why });
        }
        letters.extend(unaddressable.iter().map(|lost| self.unaddressable(event, lost)));
        self.keep(letters).await
    }

    /// Hands the event to the lanes it is missing from. The second value tells whether it is missing nowhere.
    async fn begin(
        &self,
        event: &VerifiedEvent,
        destinations: SmallVec<[Destination; 2]>,
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
                        return Err(NotAccepted::Now { retry_after: Duration::from_secs(1), why });
                    }
                    self.memory.settled(&other);
                    continue;
                }
            };
            for at in &fresh {
                self.submit(event, &acceptance, *at);
            }
            return Ok((acceptance, fresh.is_empty()));
        }
    }

    fn submit(&self, event: &VerifiedEvent, acceptance: &Arc<Acceptance>, at: usize) {
        let destination = acceptance.destination(at);
        let envelope = self.groups.envelope(event.clone(), destination.address.clone());
        let ticket = RequestTicket::new(acceptance, at);
        self.lanes[destination.sink].submit(Delivery::new(envelope, ticket));
    }

    fn unaddressable(&self, event: &VerifiedEvent, lost: &Unaddressable) -> Letter {
        self.letter(event, lost.sink, None, lost.reason(), &lost.to_string(), 0)
    }

    fn letter(
        &self,
        event: &VerifiedEvent,
        sink: usize,
        address: Option<Address>,
        reason: &'static str,
        error: &str,
        attempts: u32,
    ) -> Letter {
        let sink = Arc::clone(self.lanes[sink].name());
        Letter { address, attempts, ..Letter::new(event.clone(), sink, reason, error) }
    }

    /// Keeps dead letters that an answer waits for.
    async fn keep(&self, letters: Vec<Letter>) -> Result<(), NotAccepted> {
        // For all of them together.
        let late = Instant::now() + DEAD_LETTER;
        for letter in letters {
            log(&letter);
            let lane = self.lanes.iter().find(|lane| *lane.name() == letter.sink);
            let reason = letter.reason.clone();
            let kept = tokio::time::timeout_at(late, self.dead_letters.keep(letter)).await;
            let why = match kept {
                Ok(Ok(_)) => {
                    lane.inspect(|lane| lane.metrics().dead_letter(&reason));
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the dead letter was not on disk in time".to_owned(),
            };
            return Err(NotAccepted::Now { retry_after: Duration::from_secs(30), why });
        }
        Ok(())
    }
}
