//! How fast a sink is, beside the best that its driver does in the same minute.

use std::{collections::VecDeque, fmt, future::Future, sync::Arc, time::Duration};

use hookbus_core::{Address, Batch, Envelope, Instant, Outcome, Report, Sink};
use tokio::task::JoinSet;

use crate::TestEvent;

/// How long one publish may take here. Long: what is measured is speed, not patience.
const DEADLINE: Duration = Duration::from_secs(60);

/// Distinct events for one address, each about something else, with bodies of about so many bytes.
pub fn distinct(count: usize, body: usize, address: &Address) -> Vec<Envelope> {
    let event = |n: usize| {
        let event = TestEvent::new("fastpix").id(format!("race-{n}")).subject(format!("subject-{n}"));
        event.length(body).build()
    };
    (0..count).map(|n| Envelope::new(event(n), address.clone()).in_group(n as u64)).collect()
}

/// Publishes everything as fast as the sink takes it, as its lane does with a full queue: in batches as large as its
/// capabilities allow, and as many of them at once. Returns how long that took.
///
/// # Panics
/// Where an event is not delivered at the first try.
pub async fn drive(sink: &Arc<dyn Sink>, envelopes: &[Envelope]) -> Duration {
    let capabilities = sink.capabilities();
    let mut batches: VecDeque<Batch> = VecDeque::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for envelope in envelopes {
        let size = envelope.event.body().len();
        if batch.len() == capabilities.batch_events() || bytes + size > capabilities.batch_bytes() {
            batches.push_back(Batch::new(std::mem::take(&mut batch)));
            bytes = 0;
        }
        bytes += size;
        batch.push(envelope.clone());
    }
    batches.push_back(Batch::new(batch));
    let begun = Instant::now();
    let mut running = JoinSet::new();
    loop {
        while running.len() < capabilities.in_flight() {
            let Some(batch) = batches.pop_front() else { break };
            let sink = Arc::clone(sink);
            running.spawn(async move {
                let report = Report::new(batch.len());
                sink.publish(&batch, &report, Instant::now() + DEADLINE).await;
                let lost = report.outcomes().find(|outcome| !matches!(outcome, Outcome::Delivered { .. }));
                assert!(lost.is_none(), "not delivered: {lost:?}");
            });
        }
        match running.join_next().await {
            Some(done) => done.expect("every event is delivered"),
            None => return begun.elapsed(),
        }
    }
}

/// Two ways to publish the same number of events, measured in turn; the median of each counts.
#[derive(Clone, Debug)]
pub struct Race {
    /// What is measured.
    pub name: &'static str,
    /// Events in each round.
    pub events: usize,
    /// Rounds for each side.
    pub rounds: usize,
}

/// What came of a [`Race`]: a line of a table.
#[derive(Clone, Debug)]
pub struct Finish {
    name: &'static str,
    sink: f64,
    driver: f64,
}

impl Race {
    /// Runs both sides in turn. Each is told the number of its round, and returns how long it took.
    pub async fn run<S, D>(
        &self,
        mut sink: impl FnMut(usize) -> S,
        mut driver: impl FnMut(usize) -> D,
    ) -> Finish
    where
        S: Future<Output = Duration>,
        D: Future<Output = Duration>,
    {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            ours.push(sink(round).await);
            theirs.push(driver(round).await);
        }
        let rate = |mut times: Vec<Duration>| {
            times.sort();
            self.events as f64 / times[times.len() / 2].as_secs_f64()
        };
        Finish { name: self.name, sink: rate(ours), driver: rate(theirs) }
    }
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, sink, driver } = self;
        write!(f, "| {name} | {sink:.0} | {driver:.0} | {:.2} |", sink / driver)
    }
}
