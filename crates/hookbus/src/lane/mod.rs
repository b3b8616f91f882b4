//! A lane per sink: the only place that queues, batches, retries and gives up.
//!
//! A lane is a task that owns its queue. Every delivery in it carries a [`Ticket`], which says whom it belongs to.
//!
//! Those of *requests* come in through a bounded channel and are charged to the lane's budget of events and bytes until
//! they are resolved. By its ticket the lane tells the waiting request what became of it, and by it a request that waits
//! no longer withdraws what is not sent.
//!
//! Those of the *journal* are taken from the lane's backlog as long as its window has room. They are answered already, so
//! they are never withdrawn or refused: they are delivered, or become dead letters that are safe, and only then are they
//! resolved in the journal. What goes to an address that is set aside waits in the journal, by its id alone, so that it
//! takes no room from the others.

mod arrivals;
mod aside;
mod backoff;
mod budget;
mod exchange;
mod giving_up;
mod groups;
mod health;
mod intake;
mod landing;
mod letters;
mod not_open;
mod pace;
mod parked;
mod probing;
mod queue;
mod ticket;
mod worker;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use hookbus_core::{Address, Envelope, ErrorKind, Health, HealthState, Sink, SinkError};
use hookbus_journal::Backlog;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    task::JoinHandle,
};

pub(crate) use exchange::{Next, Settled};
pub(crate) use groups::Groups;
pub(crate) use not_open::NotOpen;
pub(crate) use ticket::Ticket;

use crate::{dead_letters::LetterBox, metrics::SinkMetrics};
use budget::{Budget, Charge};
use exchange::{EXCHANGES, Exchange};
use giving_up::Attempts;
use health::WAIT;
use intake::Intake;
use worker::Worker;

/// What a small event keeps alive of its connection's read buffer, about.
const READ_BUFFER: usize = 8 << 10;
/// Events of the journal a lane has in memory at most: its window, and so the most that arrive twice after a crash.
const JOURNAL_EVENTS: usize = 4096;
/// Bytes of such events at most, but for a single larger one.
const JOURNAL_BYTES: usize = 16 << 20;
/// Entries of which a lane only knows that they wait in the journal, at most: for addresses that are set aside, and
/// for the dead-letter store. At this limit it takes no new ones before there is room again.
const PARKED: usize = 262_144;
/// How long events of the journal may wait for others to share their batch; the timer may take a millisecond more.
const GATHER: Duration = Duration::from_millis(1);
/// With so many events a batch is large enough to go at once.
const GATHERED: usize = 128;

/// How a lane works.
#[derive(Clone, Debug)]
pub(crate) struct LaneConfig {
    /// Events it holds at most.
    pub(crate) max_events: usize,
    /// Bytes of events it holds at most.
    pub(crate) max_bytes: usize,
    /// How long one publish may take.
    pub(crate) publish_timeout: Duration,
    /// The places that routes always name, to be looked at when it starts.
    pub(crate) places: Vec<Address>,
    /// What it counts with.
    pub(crate) metrics: Arc<SinkMetrics>,
}

/// What a lane needs to deliver from the journal.
#[derive(Debug)]
pub(crate) struct FromJournal {
    /// What its sink has to get.
    pub(crate) backlog: Backlog,
    /// What stays in order.
    pub(crate) groups: Arc<Groups>,
    /// Where it keeps what it gives up.
    pub(crate) dead_letters: Arc<LetterBox>,
}

/// The way into a lane.
#[derive(Debug)]
pub(crate) struct Lane {
    name: Arc<str>,
    submit: mpsc::Sender<Delivery>,
    exchange: mpsc::Sender<Exchange>,
    budget: Arc<Budget>,
    metrics: Arc<SinkMetrics>,
    health: watch::Receiver<Health>,
}

/// The running task of a lane.
pub(crate) struct Running {
    /// Dropped or sent: finish what is in flight and close the sink.
    stop: tokio::sync::oneshot::Sender<tokio::time::Instant>,
    task: JoinHandle<()>,
}

/// An event on its way to one address of the lane's sink.
pub(crate) struct Delivery {
    pub(crate) envelope: Envelope,
    pub(crate) ticket: Ticket,
    pub(crate) attempts: Attempts,
    pub(crate) accepted: tokio::time::Instant,
    charge: Option<Charge>,
}

impl Delivery {
    pub(crate) fn new(envelope: Envelope, ticket: impl Into<Ticket>) -> Self {
        let accepted = tokio::time::Instant::now();
        Self { envelope, ticket: ticket.into(), attempts: Attempts::default(), accepted, charge: None }
    }

    /// The lane does not send it: its request shall ask again, after so long; the journal has it still.
    fn missing(self, error: SinkError, after: Duration) {
        if let Ticket::Request(request) = self.ticket {
            request.missing(error, after);
        }
    }
}

impl Lane {
    /// Starts a lane for a sink, which delivers from the journal too where there is one.
    pub(crate) fn start(
        name: Arc<str>,
        sink: Arc<dyn Sink>,
        config: LaneConfig,
        journal: Option<FromJournal>,
    ) -> (Self, Running) {
        let (submit, submitted) = mpsc::channel(config.max_events);
        let (exchange, exchanges) = mpsc::channel(EXCHANGES);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (health, healthy) = watch::channel(Health::starting());
        let budget = Arc::new(Budget::new(config.max_events, config.max_bytes));
        let metrics = Arc::clone(&config.metrics);
        // The journal tells of its own, and keeps what requests offer besides.
        if journal.is_none() {
            let held = Arc::clone(&budget);
            metrics.pending.from(move || held.pending());
        }
        let intake = journal.map(|journal| Intake::new(&name, journal, &config.metrics));
        let requests = Arc::clone(&budget);
        let worker = Worker::new(Arc::clone(&name), sink, config, intake, requests, health.clone());
        let task =
            tokio::spawn(supervised(Arc::clone(&name), health, worker.run(submitted, exchanges, stopped)));
        (Self { name, submit, exchange, budget, metrics, health: healthy }, Running { stop, task })
    }

    /// The sink's configured name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What the lane counts with.
    pub(crate) fn metrics(&self) -> &SinkMetrics {
        &self.metrics
    }

    /// How the sink is doing, now and from now on.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Lets what is in flight land, by `deadline`, and closes the sink where `close` is set. The lane sends nothing more before
    /// it is told how to go on; what waits in it stays. Nothing where it has ended.
    pub(crate) async fn settle(&self, deadline: tokio::time::Instant, close: bool) -> Option<Settled> {
        exchange::settle(&self.exchange, deadline, close).await
    }

    /// Hands a delivery over. Nothing waits here: where the lane is full, its ticket says so at once.
    pub(crate) fn submit(&self, mut delivery: Delivery) {
        let refuse = |delivery: Delivery, kind, why: &'static str| {
            let error = SinkError::new(kind, "queue", why).at_sink(&self.name);
            delivery.missing(error, Duration::from_secs(1));
        };
        // A body is a slice of the buffer its connection read it into, so a small event holds more than its own bytes.
        match self.budget.charge(delivery.envelope.event.size().max(READ_BUFFER)) {
            Some(charge) => delivery.charge = Some(charge),
            None => return refuse(delivery, ErrorKind::Overloaded, "the lane is full"),
        }
        match self.submit.try_send(delivery) {
            Ok(()) => {}
            Err(TrySendError::Full(delivery)) => refuse(delivery, ErrorKind::Overloaded, "the lane is full"),
            Err(TrySendError::Closed(delivery)) => refuse(delivery, ErrorKind::Closed, "the lane has ended"),
        }
    }
}

/// Runs a worker, and tells when it ends by a panic: its lane takes nothing any more.
async fn supervised(
    name: Arc<str>,
    health: watch::Sender<Health>,
    worker: impl Future<Output = ()> + Send + 'static,
) {
    if tokio::spawn(worker).await.is_err() {
        let error = SinkError::new(ErrorKind::Unexpected, "lane", "the lane ended by a panic").at_sink(&name);
        tracing::error!(sink = %name, %error, "events for this sink {WAIT} until a restart");
        health.send_replace(Health { state: HealthState::Down, error: Some(error), ..Health::starting() });
    }
}

impl Running {
    /// Lets the lane finish what is in flight, withdraws the rest, and closes the sink, all by `deadline`. What is of the
    /// journal and not resolved is in the journal.
    pub(crate) async fn stop(self, deadline: tokio::time::Instant) {
        let _ = self.stop.send(deadline);
        // The worker keeps to the deadline itself; the margin is for its last steps.
        let _ = tokio::time::timeout_at(deadline + Duration::from_secs(1), self.task).await;
    }
}
