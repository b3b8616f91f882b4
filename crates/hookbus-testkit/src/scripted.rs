//! A sink that does what a script says and records what it was given.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use hookbus_core::{Address, Batch, Capabilities, Instant, Outcome, Probe, Report, Sink, SinkError};
use tokio::sync::Semaphore;

/// What a scripted sink does in one publish call: fills the report, or leaves slots open.
pub type Script = dyn Fn(usize, &Batch, &Report) + Send + Sync;

/// A sink that does what a script says. Clones share the script and the record.
#[derive(Clone)]
pub struct ScriptedSink {
    capabilities: Capabilities,
    script: Arc<Script>,
    record: Arc<Mutex<Record>>,
    /// A publish takes one permit before it goes on, where the sink is gated.
    gate: Option<Arc<Semaphore>>,
}

#[derive(Default)]
struct Record {
    batches: Vec<Vec<String>>,
    probes: usize,
    address_probes: Vec<Address>,
    probe_error: Option<SinkError>,
    address_error: Option<SinkError>,
    closed: bool,
    /// Probes do not come back.
    probes_hang: bool,
}

impl ScriptedSink {
    /// A sink whose `n`th publish call (from 0) runs `script(n, batch, report)`.
    pub fn new(
        capabilities: Capabilities,
        script: impl Fn(usize, &Batch, &Report) + Send + Sync + 'static,
    ) -> Self {
        Self { capabilities, script: Arc::new(script), record: Arc::default(), gate: None }
    }

    /// A sink that delivers everything.
    pub fn delivering(capabilities: Capabilities) -> Self {
        Self::new(capabilities, |_, _, report| report.set_rest(&Outcome::delivered(None)))
    }

    /// Makes each publish wait for a permit of the returned gate; after it was passed, the script runs.
    #[must_use]
    pub fn gated(mut self) -> (Self, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        self.gate = Some(Arc::clone(&gate));
        (self, gate)
    }

    /// Lets probes of the sink fail with this error, or succeed again.
    pub fn fail_probes(&self, error: Option<SinkError>) {
        self.record().probe_error = error;
    }

    /// Lets probes hang for ever, or come back again.
    pub fn hang_probes(&self, hang: bool) {
        self.record().probes_hang = hang;
    }

    /// Lets probes of addresses fail with this error, or succeed again.
    pub fn fail_address_probes(&self, error: Option<SinkError>) {
        self.record().address_error = error;
    }

    /// The ids of the events of each publish call, in the order of the calls.
    pub fn batches(&self) -> Vec<Vec<String>> {
        self.record().batches.clone()
    }

    /// How often the sink was probed.
    pub fn probes(&self) -> usize {
        self.record().probes
    }

    /// The addresses that were probed, in order.
    pub fn address_probes(&self) -> Vec<Address> {
        self.record().address_probes.clone()
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.record().closed
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ScriptedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedSink")
    }
}

#[async_trait]
impl Sink for ScriptedSink {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn publish(&self, batch: &Batch, report: &Report, _: Instant) {
        let ids = batch.iter().map(|envelope| envelope.event.id().to_string()).collect();
        let call = {
            let mut record = self.record();
            record.batches.push(ids);
            record.batches.len() - 1
        };
        if let Some(gate) = &self.gate {
            // Invariant: the gate is never closed.
            gate.acquire().await.expect("the gate is open").forget();
        }
        (self.script)(call, batch, report);
    }

    async fn probe(&self, target: Probe<'_>, _: Instant) -> Result<(), SinkError> {
        let (error, hangs) = {
            let mut record = self.record();
            let error = match target {
                Probe::Sink => {
                    record.probes += 1;
                    record.probe_error.clone()
                }
                Probe::Address(address) => {
                    record.address_probes.push(address.clone());
                    record.address_error.clone()
                }
            };
            (error, record.probes_hang)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        error.map_or(Ok(()), Err)
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        self.record().closed = true;
        Ok(())
    }
}
