//! Another sink for a lane that goes on: what is in flight lands first, and nothing that waits is given back.

use std::{sync::Arc, time::Duration};

use hookbus_core::{Address, Health, Sink};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Groups,
    aside::Asides,
    not_open::NotOpen,
    pace::Pace,
    worker::{OVERRUN, Run, Worker},
};

/// Exchanges of one lane that may wait for each other.
pub(super) const EXCHANGES: usize = 1;
/// How long a lane waits to go on; whoever made it stop is bounded himself.
const GO_ON: Duration = Duration::from_secs(60);

/// Asks a lane to stop between two batches.
#[derive(Debug)]
pub(super) struct Exchange {
    /// By then nothing is in flight any more, whatever the sink says.
    deadline: Instant,
    /// Whether the sink is closed there, or stays.
    close: bool,
    settled: oneshot::Sender<oneshot::Sender<Next>>,
}

/// A lane that has nothing in flight and sends nothing before it is told to go on. Dropped, it goes on with
/// what it has: where its sink was closed, with none.
#[derive(Debug)]
pub(crate) struct Settled(oneshot::Sender<Next>);

/// What a lane goes on with.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// Another sink, and how long one publish may take there.
    pub(crate) sink: Option<(Arc<dyn Sink>, Duration)>,
    /// The places that routes always name, to be looked at first.
    pub(crate) places: Vec<Address>,
    /// What stays in order has changed: what waits is put into its group anew.
    pub(crate) regroup: Option<Arc<Groups>>,
}

impl Settled {
    /// Lets the lane go on.
    pub(crate) fn go_on(self, next: Next) {
        // A lane that has ended needs nothing.
        let _ = self.0.send(next);
    }
}

/// Asks a lane to settle by `deadline`, and where `close` is set to close its sink; nothing where the lane has ended.
pub(super) async fn settle(lane: &mpsc::Sender<Exchange>, deadline: Instant, close: bool) -> Option<Settled> {
    let (settled, waiting) = oneshot::channel();
    // The worker keeps to the deadline itself; the margin is for its last steps.
    let late = deadline + OVERRUN * 4;
    timeout_at(late, lane.send(Exchange { deadline, close, settled })).await.ok()?.ok()?;
    timeout_at(late, waiting).await.ok()?.ok().map(Settled)
}

impl Worker {
    /// Lands what is in flight, waits to be told how to go on, and goes on.
    pub(super) async fn exchange(&mut self, exchange: Exchange) {
        let Exchange { deadline, close, settled } = exchange;
        let cut_off = self.land(deadline).await;
        if close {
            self.close(deadline).await;
            // Dropped too, before anybody opens another one: it may have its folder to itself as long as it is there.
            self.sink = Arc::new(NotOpen(None));
        }
        let (go_on, next) = oneshot::channel();
        let next = match settled.send(go_on) {
            Ok(()) => timeout(GO_ON, next).await.ok().and_then(Result::ok).unwrap_or_default(),
            Err(_) => Next::default(),
        };
        self.begin_again(next, cut_off);
    }

    /// Waits until nothing is in flight; what is not answered by then is cut off, and may have been delivered. Returns the
    /// probes that were cut off.
    async fn land(&mut self, deadline: Instant) -> Vec<Run> {
        while self.in_flight > 0 {
            match timeout_at(deadline, self.tasks.join_next_with_id()).await {
                Ok(Some(done)) => self.done(done),
                Ok(None) | Err(_) => break,
            }
        }
        // They are gone, and not only told to go, before what they left is looked at and the sink is closed.
        let _ = timeout_at(deadline + OVERRUN, self.tasks.shutdown()).await;
        let mut probes = Vec::new();
        for run in std::mem::take(&mut self.running).into_values() {
            match run {
                Run::Publish { deliveries, report } => self.landed(deliveries, &report),
                probe => probes.push(probe),
            }
        }
        self.in_flight = 0;
        probes
    }

    /// Closes the sink.
    pub(super) async fn close(&self, deadline: Instant) {
        match timeout_at(deadline + OVERRUN, self.sink.close(deadline)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(sink = %self.name, %error, "sink did not close in order"),
            Err(_) => tracing::warn!(sink = %self.name, "sink did not close in time"),
        }
    }

    fn begin_again(&mut self, next: Next, cut_off: Vec<Run>) {
        let Next { sink, places, regroup } = next;
        let is_another = sink.is_some();
        if let Some((sink, publish_timeout)) = sink {
            self.capabilities = sink.capabilities();
            (self.sink, self.config.publish_timeout) = (sink, publish_timeout);
            // Nothing that was learnt of the other one holds.
            self.pace = Pace::Open;
            for place in std::mem::take(&mut self.aside).into_places() {
                self.restore(&place);
            }
            self.health.send_replace(Health::starting());
            self.to_look_at = places.into();
            self.spawn_probe(Run::FirstLook(None));
        }
        if let Some(groups) = regroup {
            for mut delivery in self.queue.drain() {
                let (event, address) = (delivery.envelope.event.clone(), delivery.envelope.address.clone());
                delivery.envelope = groups.envelope(event, address);
                self.queue.push(delivery);
            }
            // What was held back there is found out again.
            for place in std::mem::take(&mut self.aside).into_places() {
                self.restore(&place);
            }
        }
        if !is_another {
            cut_off.into_iter().for_each(|probe| self.probe_again(probe));
        }
    }

    /// Asks again what was cut off: nobody else would.
    fn probe_again(&mut self, probe: Run) {
        match probe {
            Run::ProbeSink => self.pace.probe_cut_off(Instant::now()),
            Run::FirstLook(_) => self.spawn_probe(probe),
            Run::ProbeAddress(ref place) if self.aside.contains(place) => self.spawn_probe(probe),
            Run::ProbeAddress(_) | Run::Publish { .. } => {}
        }
    }
}

impl Asides {
    fn into_places(self) -> impl Iterator<Item = Address> {
        self.places.into_keys()
    }
}
