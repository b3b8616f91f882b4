//! The task of a lane.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use hookbus_core::{
    Address, Batch, Capabilities, ErrorKind, Health, HealthState, Outcome, Probe, Report, RetryClass, Sink,
    SinkError,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    Delivery, LaneConfig,
    aside::{Asides, Due, SetAside},
    backoff,
    giving_up::{Verdict, verdict},
    pace::Pace,
    queue::Queue,
};

/// How long a publish may overrun its deadline before it is dropped: time to fill in what it knows.
const OVERRUN: Duration = Duration::from_millis(250);
/// New deliveries taken over in one go.
const INTAKE: usize = 256;

pub(super) struct Worker {
    name: Arc<str>,
    sink: Arc<dyn Sink>,
    capabilities: Capabilities,
    config: LaneConfig,
    queue: Queue,
    pace: Pace,
    aside: Asides,
    /// Addresses still to be asked about at the start.
    to_look_at: VecDeque<Address>,
    tasks: JoinSet<Result<(), SinkError>>,
    running: HashMap<Id, Run>,
    in_flight: usize,
    /// How long the queue has to be to look for what was withdrawn in it.
    purge_at: usize,
    health: watch::Sender<Health>,
}

/// What a task of the lane does.
enum Run {
    Publish {
        deliveries: Vec<Delivery>,
        report: Arc<Report>,
    },
    ProbeSink,
    ProbeAddress(Address),
    /// The first look at the sink, or at one of the addresses its routes name.
    FirstLook(Option<Address>),
}

impl Worker {
    pub(super) fn new(
        name: Arc<str>,
        sink: Arc<dyn Sink>,
        config: LaneConfig,
        health: watch::Sender<Health>,
    ) -> Self {
        let capabilities = sink.capabilities();
        let (tasks, running, aside) = (JoinSet::new(), HashMap::new(), Asides::default());
        let to_look_at = config.places.iter().cloned().collect();
        Self {
            name,
            sink,
            capabilities,
            queue: Queue::default(),
            pace: Pace::Open,
            aside,
            to_look_at,
            tasks,
            running,
            in_flight: 0,
            purge_at: config.max_events / 2,
            config,
            health,
        }
    }

    /// Runs until told to stop.
    ///
    /// The sink is looked at first, and then the addresses that its routes name, so that what is wrong is known before
    /// the first event; nothing waits for that.
    ///
    /// The order matters: what has come back is dealt with first, because it frees the window and may pause the lane;
    /// then new deliveries. What the clock asks for is done before either, or a lane that is always busy would never
    /// probe. Before each wait everything that may be sent is.
    pub(super) async fn run(
        mut self,
        mut submitted: mpsc::Receiver<Delivery>,
        mut stopped: oneshot::Receiver<Instant>,
    ) {
        self.spawn_probe(Run::FirstLook(None));
        let mut incoming = Vec::with_capacity(INTAKE);
        let deadline = loop {
            self.launch();
            self.config.metrics.lane(self.queue.len(), self.in_flight);
            let wake = self.next_wake();
            if wake.is_some_and(|wake| wake <= Instant::now()) {
                self.wake();
                continue;
            }
            tokio::select! {
                biased;
                deadline = &mut stopped => break deadline.unwrap_or_else(|_| Instant::now()),
                Some(done) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.done(done),
                count = submitted.recv_many(&mut incoming, INTAKE) => {
                    if count == 0 {
                        // Nobody can submit any more; the stop signal follows.
                        break stopped.await.unwrap_or_else(|_| Instant::now());
                    }
                    incoming.drain(..).for_each(|delivery| self.admit(delivery));
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        };
        submitted.close();
        while let Ok(delivery) = submitted.try_recv() {
            self.queue.push(delivery);
        }
        self.finish(deadline).await;
    }

    /// Takes a new delivery in, or says at once what stands in its way.
    fn admit(&mut self, delivery: Delivery) {
        let now = Instant::now();
        let in_the_way = self.pace.obstacle(now).or_else(|| {
            if self.aside.is_empty() {
                return None;
            }
            self.aside.obstacle(&delivery.envelope.address.place(), now)
        });
        match in_the_way {
            Some((error, after)) => delivery.ticket.missing(error, after),
            None => {
                // Now and then, because it looks at all of them.
                if self.queue.len() >= self.purge_at {
                    self.queue.purge();
                    self.purge_at =
                        (self.config.max_events / 2).max(self.queue.len() + self.config.max_events / 8);
                }
                self.queue.push(delivery);
            }
        }
    }

    /// Sends as much as the pace, the window and the groups allow.
    fn launch(&mut self) {
        while self.queue.has_ready() {
            let limit = self.pace.allows(self.in_flight, self.capabilities.in_flight());
            if limit == 0 {
                return;
            }
            let deliveries = self.queue.take(&self.capabilities, limit);
            if deliveries.is_empty() {
                return;
            }
            let envelopes: Vec<_> = deliveries.iter().map(|delivery| delivery.envelope.clone()).collect();
            let (batch, report) = (Batch::new(envelopes), Arc::new(Report::new(deliveries.len())));
            let (sink, filled) = (Arc::clone(&self.sink), Arc::clone(&report));
            let metrics = Arc::clone(&self.config.metrics);
            metrics.launched(deliveries.len());
            let begun = Instant::now();
            let deadline = begun + self.config.publish_timeout;
            // In a task of its own, so that a sink that panics takes only its batch down.
            let task = self.tasks.spawn(async move {
                let _ = timeout_at(deadline + OVERRUN, sink.publish(&batch, &filled, deadline)).await;
                metrics.published(begun.elapsed());
                Ok(())
            });
            self.in_flight += 1;
            self.running.insert(task.id(), Run::Publish { deliveries, report });
        }
    }

    fn done(&mut self, done: Result<(Id, Result<(), SinkError>), JoinError>) {
        let (id, result) = match done {
            Ok(done) => done,
            Err(panic) => {
                // Not its message, which may hold a payload; the panic hook has shown that already.
                let error = SinkError::new(ErrorKind::Unexpected, "publish", "the sink panicked");
                (panic.id(), Err(error.at_sink(&self.name)))
            }
        };
        match (self.running.remove(&id), result) {
            (Some(Run::Publish { deliveries, report }), result) => {
                self.in_flight -= 1;
                if let Err(panic) = result {
                    tracing::error!(sink = %self.name, error = %panic, "the sink panicked while publishing");
                    report.set_rest(&Outcome::maybe_delivered(panic));
                }
                self.landed(deliveries, &report);
            }
            (Some(Run::ProbeSink), Ok(())) => {
                self.pace.probed();
                self.queue.purge();
                // Nothing could be tried now: what waits, waits for something else.
                if !self.queue.has_ready() {
                    self.healthy();
                }
            }
            (Some(Run::ProbeSink), Err(error)) => self.pause(&error.at_sink(&self.name), Instant::now()),
            (Some(Run::ProbeAddress(place)), answer) => {
                let answer = answer.map_err(|error| error.at_sink(&self.name));
                if self.aside.asked(&place, answer, Instant::now()) {
                    self.queue.let_one_pass(&place);
                }
            }
            (Some(Run::FirstLook(place)), answer) => self.looked(place.as_ref(), answer),
            (None, _) => {}
        }
    }

    /// Deals with a first look at the sink or one of its addresses.
    fn looked(&mut self, place: Option<&Address>, answer: Result<(), SinkError>) {
        match (place, answer.map_err(|error| error.at_sink(&self.name))) {
            (None, Ok(())) if self.starting() => self.healthy(),
            (None, Err(error)) if self.starting() && self.pace.is_open() => {
                return self.pause(&error, Instant::now());
            }
            (Some(place), Err(error)) if error.retry_class() == RetryClass::Address => {
                self.set_aside(place, &error, Instant::now());
            }
            // Whatever else there is, events have found out or will.
            _ => {}
        }
        if let Some(next) = self.to_look_at.pop_front() {
            self.spawn_probe(Run::FirstLook(Some(next)));
        }
    }

    /// Deals with the outcomes of a batch, event by event, in order.
    fn landed(&mut self, deliveries: Vec<Delivery>, report: &Report) {
        let now = Instant::now();
        let mut groups: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.envelope.group()).collect();
        groups.dedup();
        let (mut again, mut answered) = (Vec::new(), false);
        for (mut delivery, outcome) in deliveries.into_iter().zip(report.outcomes()) {
            delivery.attempts += 1;
            self.config.metrics.tried(&outcome);
            let mut when = None;
            let age = now.saturating_duration_since(delivery.accepted);
            if let Outcome::Delivered { position: Some(position), .. } = &outcome {
                tracing::trace!(sink = %self.name, id = delivery.envelope.event.id().as_str(), %position, "delivered");
            }
            let error = match verdict(outcome, delivery.attempts, age) {
                Verdict::Delivered => {
                    answered = true;
                    self.address_answered(&delivery.envelope.address);
                    delivery.ticket.delivered();
                    continue;
                }
                Verdict::DeadLetter(error) => {
                    answered = true;
                    // Given up because its address is not there: that is no sign of life.
                    if error.retry_class() != RetryClass::Address {
                        self.address_answered(&delivery.envelope.address);
                    }
                    delivery.ticket.rejected(error.at_sink(&self.name), delivery.attempts);
                    continue;
                }
                Verdict::PauseLane(error) => {
                    let error = error.at_sink(&self.name);
                    self.pause(&error, now);
                    error
                }
                Verdict::SetAside(error) => {
                    answered = true;
                    let error = error.at_sink(&self.name);
                    if !self.set_aside(&delivery.envelope.address.place(), &error, now) {
                        when = Some(now + backoff::jittered(delivery.attempts));
                    }
                    error
                }
                Verdict::TryAgain { error, maybe_delivered } => {
                    let error = error.at_sink(&self.name);
                    if maybe_delivered {
                        self.pause(&error, now);
                    } else {
                        when = Some(now + backoff::jittered(delivery.attempts));
                    }
                    error
                }
            };
            // Its address had one event to try, and this one told nothing about it.
            if when.is_some() || !self.pace.is_open() {
                self.try_another(&delivery.envelope.address);
            }
            // A request that waits no longer gets no further try; its sender will ask again.
            if delivery.ticket.again(error) {
                again.push((delivery, when));
            }
        }
        self.queue.landed(groups, again);
        if answered {
            self.pace.answered();
            if self.pace.is_open() {
                self.healthy();
            }
        }
    }

    fn pause(&mut self, error: &SinkError, now: Instant) {
        self.pace.pause(error.clone(), now);
        self.set_health(HealthState::Down, Some(error.clone()));
    }

    /// Whether the address is set aside now; not, where too many are already.
    fn set_aside(&mut self, place: &Address, error: &SinkError, now: Instant) -> bool {
        match self.aside.refused(place, error.clone(), now) {
            SetAside::TooMany => return false,
            SetAside::Already => self.queue.set_aside(place.clone()),
            SetAside::New => {
                tracing::warn!(sink = %self.name, address = %place, %error, "address set aside until it takes events");
                self.queue.set_aside(place.clone());
                if self.pace.is_open() {
                    self.set_health(HealthState::Degraded, Some(error.clone()));
                }
            }
        }
        true
    }

    /// An event for this address arrived, or was refused for its own sake: it is there.
    fn address_answered(&mut self, address: &Address) {
        if self.aside.is_empty() {
            return;
        }
        let place = address.place();
        if self.aside.answered(&place) {
            tracing::info!(sink = %self.name, address = %place, "address is back");
            self.queue.restore(&place);
        }
    }

    /// Where an address waits for the outcome of one event, another one may be that.
    fn try_another(&mut self, address: &Address) {
        if self.aside.is_empty() {
            return;
        }
        let place = address.place();
        if self.aside.contains(&place) && self.aside.obstacle(&place, Instant::now()).is_none() {
            self.queue.let_one_pass(&place);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let wakes = [self.aside.next_wake(), self.pace.next_wake(), self.queue.next_wake()];
        wakes.into_iter().flatten().min()
    }

    /// Does what the clock asks for: probes, and deliveries whose time has come.
    fn wake(&mut self) {
        let now = Instant::now();
        self.queue.wake(now);
        self.queue.purge();
        if self.pace.begin_probe(now) {
            self.spawn_probe(Run::ProbeSink);
        }
        while let Some(due) = self.aside.due(now, |place| self.queue.waits_for(place)) {
            match due {
                Due::Ask(place) => self.spawn_probe(Run::ProbeAddress(place)),
                Due::Try(place) => self.queue.let_one_pass(&place),
                Due::Forget(place) => {
                    self.queue.restore(&place);
                    if self.pace.is_open() {
                        self.healthy();
                    }
                }
            }
        }
    }

    fn spawn_probe(&mut self, run: Run) {
        let target = match &run {
            Run::ProbeAddress(place) | Run::FirstLook(Some(place)) => Some(place.clone()),
            Run::ProbeSink | Run::FirstLook(None) | Run::Publish { .. } => None,
        };
        let sink = Arc::clone(&self.sink);
        let deadline = Instant::now() + self.config.publish_timeout;
        let task = self.tasks.spawn(async move {
            let probe = target.as_ref().map_or(Probe::Sink, Probe::Address);
            let late = || SinkError::new(ErrorKind::Timeout, "probe", "no answer before the deadline");
            timeout_at(deadline + OVERRUN, sink.probe(probe, deadline)).await.unwrap_or_else(|_| Err(late()))
        });
        self.running.insert(task.id(), run);
    }

    fn starting(&self) -> bool {
        self.health.borrow().state == HealthState::Starting
    }

    fn healthy(&self) {
        match self.aside.error() {
            Some(error) => self.set_health(HealthState::Degraded, Some(error.clone())),
            None => self.set_health(HealthState::Ready, None),
        }
    }

    /// Publishes the state and logs it, once per change.
    fn set_health(&self, state: HealthState, error: Option<SinkError>) {
        self.health.send_if_modified(|health| {
            if health.state == state {
                let kind = |error: &Option<SinkError>| error.as_ref().map(SinkError::kind);
                if let Some(error) = error.as_ref().filter(|_| kind(&health.error) != kind(&error)) {
                    tracing::warn!(sink = %self.name, %error, "sink is still {}, for another reason", state.as_str());
                }
                health.error = error;
                return false;
            }
            let lasted = SystemTime::now().duration_since(health.since).unwrap_or_default();
            match (&error, health.state) {
                (Some(error), _) if state == HealthState::Down => {
                    tracing::warn!(sink = %self.name, %error, "sink is down; its events are answered 503 until it is back");
                }
                (_, HealthState::Down) => tracing::info!(sink = %self.name, after = ?lasted, "sink is back"),
                (_, HealthState::Starting) => tracing::debug!(sink = %self.name, "sink is {}", state.as_str()),
                _ => tracing::info!(sink = %self.name, "sink is {}", state.as_str()),
            }
            *health = Health { state, since: SystemTime::now(), error };
            true
        });
    }

    /// The end: withdraws what is not sent, waits for what is, and closes the sink.
    async fn finish(mut self, deadline: Instant) {
        let stopping =
            SinkError::new(ErrorKind::Closed, "publish", "the bridge is stopping").at_sink(&self.name);
        for delivery in self.queue.drain() {
            delivery.ticket.missing(stopping.clone(), Duration::from_secs(1));
        }
        while self.in_flight > 0 {
            match timeout_at(deadline, self.tasks.join_next_with_id()).await {
                Ok(Some(done)) => self.done(done),
                Ok(None) | Err(_) => break,
            }
            for delivery in self.queue.drain() {
                delivery.ticket.missing(stopping.clone(), Duration::from_secs(1));
            }
        }
        // They are gone, and not only told to go, before what they left is looked at and the sink is closed.
        let _ = timeout_at(deadline + OVERRUN, self.tasks.shutdown()).await;
        for run in std::mem::take(&mut self.running).into_values() {
            if let Run::Publish { deliveries, report } = run {
                self.landed(deliveries, &report);
            }
        }
        for delivery in self.queue.drain() {
            delivery.ticket.missing(stopping.clone(), Duration::from_secs(1));
        }
        self.config.metrics.lane(0, 0);
        match timeout_at(deadline + OVERRUN, self.sink.close(deadline)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(sink = %self.name, %error, "sink did not close in order"),
            Err(_) => tracing::warn!(sink = %self.name, "sink did not close in time"),
        }
    }
}
