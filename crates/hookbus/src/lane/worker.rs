//! The task of a lane.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hookbus_core::{
    Address, Batch, Capabilities, ErrorKind, Health, HealthState, Outcome, Probe, Report, Sink, SinkError,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    Delivery, LaneConfig, backoff,
    giving_up::{Verdict, verdict},
    pace::Pace,
    queue::Queue,
};

/// How long a publish may overrun its deadline before it is dropped: time to fill in what it knows.
const OVERRUN: Duration = Duration::from_millis(250);
/// Addresses set aside at once; further ones are only delayed.
const MAX_ASIDE: usize = 1024;
/// New deliveries taken over in one go.
const INTAKE: usize = 256;

pub(super) struct Worker {
    name: Arc<str>,
    sink: Arc<dyn Sink>,
    capabilities: Capabilities,
    config: LaneConfig,
    queue: Queue,
    pace: Pace,
    aside: HashMap<Address, Aside>,
    tasks: JoinSet<Result<(), SinkError>>,
    running: HashMap<Id, Run>,
    in_flight: usize,
    health: watch::Sender<Health>,
}

/// An address that was refused.
struct Aside {
    error: SinkError,
    failures: u32,
    /// When it is looked at again; nothing while that is being done.
    check: Option<Instant>,
}

/// What a task of the lane does.
enum Run {
    Publish { deliveries: Vec<Delivery>, report: Arc<Report> },
    ProbeSink,
    ProbeAddress(Address),
}

impl Worker {
    pub(super) fn new(
        name: Arc<str>,
        sink: Arc<dyn Sink>,
        config: LaneConfig,
        health: watch::Sender<Health>,
    ) -> Self {
        let capabilities = sink.capabilities();
        let (tasks, running, aside) = (JoinSet::new(), HashMap::new(), HashMap::new());
        Self {
            name,
            sink,
            capabilities,
            config,
            queue: Queue::default(),
            pace: Pace::Open,
            aside,
            tasks,
            running,
            in_flight: 0,
            health,
        }
    }

    /// Runs until told to stop.
    ///
    /// The order matters: what has come back is dealt with first, because it frees the window and may pause the lane;
    /// then new deliveries. What the clock asks for is done before either, or a lane that is always busy would never
    /// probe. Before each wait everything that may be sent is.
    pub(super) async fn run(
        mut self,
        mut submitted: mpsc::Receiver<Delivery>,
        mut stopped: oneshot::Receiver<Instant>,
    ) {
        let mut incoming = Vec::with_capacity(INTAKE);
        let deadline = loop {
            self.launch();
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
        let aside = || self.aside.get(&delivery.envelope.address);
        let in_the_way = self.pace.obstacle(now).or_else(|| {
            aside().map(|aside| {
                (
                    aside.error.clone(),
                    aside.check.map_or(Duration::ZERO, |at| at.saturating_duration_since(now)),
                )
            })
        });
        match in_the_way {
            Some((error, after)) => delivery.ticket.missing(error, after),
            None => {
                if self.queue.len() >= self.config.max_events / 2 {
                    self.queue.purge();
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
            let deadline = Instant::now() + self.config.publish_timeout;
            // In a task of its own, so that a sink that panics takes only its batch down.
            let task = self.tasks.spawn(async move {
                let _ = timeout_at(deadline + OVERRUN, sink.publish(&batch, &filled, deadline)).await;
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
                if self.queue.len() == 0 {
                    self.healthy();
                }
            }
            (Some(Run::ProbeSink), Err(error)) => self.pace.pause(error.at_sink(&self.name), Instant::now()),
            (Some(Run::ProbeAddress(address)), Ok(())) => {
                tracing::info!(sink = %self.name, %address, "address is back");
                self.aside.remove(&address);
                self.queue.restore(&address);
                self.healthy();
            }
            (Some(Run::ProbeAddress(address)), Err(error)) => {
                if let Some(aside) = self.aside.get_mut(&address) {
                    aside.failures = aside.failures.saturating_add(1);
                    aside.check = Some(Instant::now() + backoff::jittered(aside.failures));
                    aside.error = error.at_sink(&self.name);
                }
            }
            (None, _) => {}
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
            let mut when = None;
            let age = now.saturating_duration_since(delivery.accepted);
            if let Outcome::Delivered { position: Some(position), .. } = &outcome {
                tracing::trace!(sink = %self.name, id = delivery.envelope.event.id().as_str(), %position, "delivered");
            }
            let error = match verdict(outcome, delivery.attempts, age) {
                Verdict::Delivered => {
                    answered = true;
                    delivery.ticket.delivered();
                    continue;
                }
                Verdict::DeadLetter(error) => {
                    answered = true;
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
                    if !self.set_aside(&delivery.envelope.address, &error, now) {
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
    fn set_aside(&mut self, address: &Address, error: &SinkError, now: Instant) -> bool {
        if !self.aside.contains_key(address) {
            if self.aside.len() >= MAX_ASIDE {
                return false;
            }
            tracing::warn!(sink = %self.name, %address, %error, "address set aside until it is there");
            let check = Some(now + backoff::jittered(1));
            self.aside.insert(address.clone(), Aside { error: error.clone(), failures: 1, check });
            self.queue.set_aside(address.clone());
            if self.pace.is_open() {
                self.set_health(HealthState::Degraded, Some(error.clone()));
            }
        }
        true
    }

    fn next_wake(&self) -> Option<Instant> {
        let checks = self.aside.values().filter_map(|aside| aside.check);
        checks.chain(self.pace.next_wake()).chain(self.queue.next_wake()).min()
    }

    /// Does what the clock asks for: probes, and deliveries whose time has come.
    fn wake(&mut self) {
        let now = Instant::now();
        self.queue.wake(now);
        self.queue.purge();
        let deadline = now + self.config.publish_timeout;
        if self.pace.begin_probe(now) {
            self.probe(None, deadline);
        }
        let due = |aside: &Aside| aside.check.is_some_and(|check| check <= now);
        // An address that nothing waits for any more is forgotten: the next event for it will tell.
        let forgotten: Vec<_> = self
            .aside
            .iter()
            .filter(|(address, aside)| due(aside) && !self.queue.waits_for(address))
            .map(|(address, _)| address.clone())
            .collect();
        for address in &forgotten {
            self.aside.remove(address);
            self.queue.restore(address);
        }
        if !forgotten.is_empty() && self.pace.is_open() {
            self.healthy();
        }
        let due = self.aside.iter().find(|(_, aside)| due(aside));
        if let Some(address) = due.map(|(address, _)| address.clone()) {
            if let Some(aside) = self.aside.get_mut(&address) {
                aside.check = None;
            }
            self.probe(Some(address), deadline);
        }
    }

    fn probe(&mut self, address: Option<Address>, deadline: Instant) {
        let (sink, target) = (Arc::clone(&self.sink), address.clone());
        let task = self.tasks.spawn(async move {
            let probe = target.as_ref().map_or(Probe::Sink, Probe::Address);
            let late = || SinkError::new(ErrorKind::Timeout, "probe", "no answer before the deadline");
            timeout_at(deadline + OVERRUN, sink.probe(probe, deadline)).await.unwrap_or_else(|_| Err(late()))
        });
        self.running.insert(task.id(), address.map_or(Run::ProbeSink, Run::ProbeAddress));
    }

    fn healthy(&self) {
        match self.aside.values().next() {
            Some(aside) => self.set_health(HealthState::Degraded, Some(aside.error.clone())),
            None => self.set_health(HealthState::Ready, None),
        }
    }

    /// Publishes the state and logs it, once per change.
    fn set_health(&self, state: HealthState, error: Option<SinkError>) {
        self.health.send_if_modified(|health| {
            if health.state == state {
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
        self.tasks.abort_all();
        for run in std::mem::take(&mut self.running).into_values() {
            if let Run::Publish { deliveries, report } = run {
                self.landed(deliveries, &report);
            }
        }
        for delivery in self.queue.drain() {
            delivery.ticket.missing(stopping.clone(), Duration::from_secs(1));
        }
        match timeout_at(deadline + OVERRUN, self.sink.close(deadline)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(sink = %self.name, %error, "sink did not close in order"),
            Err(_) => tracing::warn!(sink = %self.name, "sink did not close in time"),
        }
    }
}
