//! The task of a lane.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use hookbus_core::{Address, Batch, Capabilities, ErrorKind, Health, Report, Sink, SinkError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{Id, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    Delivery, LaneConfig,
    aside::Asides,
    budget::Budget,
    exchange::Exchange,
    intake::{Came, Intake},
    pace::Pace,
    queue::Queue,
};

/// How long a publish may overrun its deadline before it is dropped: time to fill in what it knows.
pub(super) const OVERRUN: Duration = Duration::from_millis(250);
/// New deliveries taken over in one go.
const INTAKE: usize = 256;

pub(super) struct Worker {
    pub(super) name: Arc<str>,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) capabilities: Capabilities,
    pub(super) config: LaneConfig,
    pub(super) queue: Queue,
    pub(super) pace: Pace,
    pub(super) aside: Asides,
    /// Addresses still to be asked about at the start.
    pub(super) to_look_at: VecDeque<Address>,
    pub(super) tasks: JoinSet<Result<(), SinkError>>,
    pub(super) running: HashMap<Id, Run>,
    pub(super) in_flight: usize,
    /// How long the queue has to be to look for what was withdrawn in it.
    pub(super) purge_at: usize,
    /// The way in from the journal, where there is one.
    pub(super) intake: Option<Intake>,
    /// What requests wait for.
    pub(super) requests: Arc<Budget>,
    /// Until then it is waited for more before a batch is sent.
    pub(super) gather: Option<Instant>,
    pub(super) health: watch::Sender<Health>,
}

/// What a task of the lane does.
pub(super) enum Run {
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
        intake: Option<Intake>,
        requests: Arc<Budget>,
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
            intake,
            requests,
            gather: None,
            health,
        }
    }

    /// Runs until told to stop.
    ///
    /// The sink is looked at first, and then the addresses that its routes name, so that what is wrong is known before
    /// the first event; nothing waits for that.
    ///
    /// The order matters: what has come back is dealt with first, because it frees the window and may pause the lane;
    /// then new deliveries, of requests and of the journal as they come. What the clock asks for is done before either, or a lane that is always busy would never
    /// probe. Before each wait everything that may be sent is.
    pub(super) async fn run(
        mut self,
        mut submitted: mpsc::Receiver<Delivery>,
        mut exchanges: mpsc::Receiver<Exchange>,
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
                Some(exchange) = exchanges.recv() => self.exchange(exchange).await,
                arrival = next(&mut submitted, &mut incoming, self.intake.as_mut()) => match arrival {
                    Arrival::Journal(came) => self.came(came),
                    Arrival::Requests => incoming.drain(..).for_each(|delivery| self.admit(delivery)),
                    // Nobody can submit any more; the stop signal follows.
                    Arrival::End => break stopped.await.unwrap_or_else(|_| Instant::now()),
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        };
        submitted.close();
        while let Ok(delivery) = submitted.try_recv() {
            self.queue.push(delivery);
        }
        self.finish(deadline).await;
    }

    /// Sends as much as the pace, the window and the groups allow.
    fn launch(&mut self) {
        if self.is_gathering() {
            return;
        }
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

    fn next_wake(&self) -> Option<Instant> {
        let journal = self.intake.as_ref().and_then(Intake::next_wake);
        let wakes =
            [self.aside.next_wake(), self.pace.next_wake(), self.queue.next_wake(), journal, self.gather];
        wakes.into_iter().flatten().min()
    }

    /// The end: withdraws what is not sent, waits for what is, and closes the sink. What is of the journal stays there.
    async fn finish(mut self, deadline: Instant) {
        let stopping =
            SinkError::new(ErrorKind::Closed, "publish", "the bridge is stopping").at_sink(&self.name);
        for delivery in self.queue.drain() {
            delivery.missing(stopping.clone(), Duration::from_secs(1));
        }
        while self.in_flight > 0 {
            match timeout_at(deadline, self.tasks.join_next_with_id()).await {
                Ok(Some(done)) => self.done(done),
                Ok(None) | Err(_) => break,
            }
            for delivery in self.queue.drain() {
                delivery.missing(stopping.clone(), Duration::from_secs(1));
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
            delivery.missing(stopping.clone(), Duration::from_secs(1));
        }
        self.config.metrics.lane(0, 0);
        self.close(deadline).await;
    }
}

/// What came in.
enum Arrival {
    /// Deliveries of requests, which were put where they go.
    Requests,
    Journal(Came),
    /// The lane is not in use any more.
    End,
}

/// Waits for what comes in, from either side in turn, so that neither starves the other. May be cancelled.
async fn next(
    submitted: &mut mpsc::Receiver<Delivery>,
    incoming: &mut Vec<Delivery>,
    intake: Option<&mut Intake>,
) -> Arrival {
    let requests = submitted.recv_many(incoming, INTAKE);
    let arrival = |count| if count == 0 { Arrival::End } else { Arrival::Requests };
    match intake {
        None => arrival(requests.await),
        Some(intake) => tokio::select! {
            count = requests => arrival(count),
            came = intake.next() => Arrival::Journal(came),
        },
    }
}
