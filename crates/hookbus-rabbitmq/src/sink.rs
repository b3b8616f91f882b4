//! The sink.

use std::{fmt, future::Future, sync::Arc};

use async_trait::async_trait;
use hookbus_core::{Batch, Capabilities, ErrorKind, Instant, Probe, Report, Sink, SinkContext, SinkError};
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use tokio::{sync::Mutex, time::timeout_at};

use crate::{
    RabbitMqConfig,
    classify::{Place, classify},
    connect::connect,
    deliver::{deliver, find_exchange},
    link::Link,
    work::Work,
};

/// Calls at once; each has a channel of its own, so this is also the number of channels.
const IN_FLIGHT: usize = 4;
/// Events a call: together with the other calls enough to keep the broker busy while confirmations travel.
const BATCH: usize = 1000;

pub(crate) struct RabbitMqSink {
    config: RabbitMqConfig,
    context: SinkContext,
    /// Locked while a connection is made: whoever needs one meanwhile waits for the same.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    link: Option<Arc<Link>>,
    /// The node that was good last.
    good: usize,
    closed: bool,
}

impl RabbitMqSink {
    pub(crate) fn new(config: RabbitMqConfig, context: SinkContext) -> Self {
        Self { config, context, state: Mutex::default() }
    }

    /// The connection, made anew where there is none that can be used. Nothing repairs it in the background: lanes
    /// decide when to try again.
    async fn link(&self, deadline: Instant) -> Result<Arc<Link>, SinkError> {
        let mut state = self.state.lock().await;
        if state.closed {
            return Err(SinkError::new(ErrorKind::Closed, "connect", "the sink was closed"));
        }
        if let Some(link) = state.link.as_ref().filter(|link| link.is_connected()) {
            // Not even with another connection: the broker would take one message of each.
            if let Some(alarm) = link.alarm() {
                return Err(alarm);
            }
            if !link.is_spoiled() {
                return Ok(Arc::clone(link));
            }
        }
        state.link = None;
        let mut failed = SinkError::new(ErrorKind::Unavailable, "connect", "no time to connect");
        let nodes = self.config.url.from(state.good);
        for (left, (at, node)) in (1..=nodes.len()).rev().zip(nodes) {
            // A fair share of the time: a node that does not answer must not use up that of the others.
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
            match connect(node, &self.config, &self.context, now + share).await {
                Ok(link) => {
                    tracing::debug!(sink = %self.context.name, %node, "connected");
                    let link = Arc::new(link);
                    (state.link, state.good) = (Some(Arc::clone(&link)), at);
                    return Ok(link);
                }
                // The users are the same on every node: a wrong password is not tried on each.
                Err(error) if error.kind() == ErrorKind::Auth => return Err(error),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn ask(&self, link: &Link, target: Probe<'_>) -> Result<(), SinkError> {
        let channel = link.channel("probe").await?;
        let Probe::Address(address) = target else { return Ok(()) };
        let (exchange, key) = (address.get("exchange"), address.get("routing-key").unwrap_or_default());
        let found = match exchange {
            Some(exchange) => find_exchange(&channel, exchange).await,
            // At the default exchange the routing key is the name of a queue.
            None => {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(key.into(), options, FieldTable::default()).await.map(drop)
            }
        };
        let place = if link.is_connected() { Place::Channel } else { Place::Connection };
        found.map_err(|error| classify(place, "probe", &error))
    }
}

/// Does something on a connection, unless the broker has an alarm or the time is over.
async fn while_it_is_well<T>(
    link: &Link,
    deadline: Instant,
    operation: &'static str,
    call: impl Future<Output = Result<T, SinkError>>,
) -> Result<T, SinkError> {
    let call = async {
        tokio::select! {
            biased;
            done = call => done,
            alarm = link.alarmed() => Err(alarm),
        }
    };
    timeout_at(deadline, call).await.unwrap_or_else(|_| {
        // It has kept us waiting for a whole deadline: the next call takes another one.
        link.spoil();
        Err(SinkError::new(ErrorKind::Timeout, operation, "no answer from the broker before the deadline"))
    })
}

fn late(operation: &'static str) -> SinkError {
    SinkError::new(ErrorKind::Timeout, operation, "no connection before the deadline")
}

#[async_trait]
impl Sink for RabbitMqSink {
    fn capabilities(&self) -> Capabilities {
        // No prefix: what comes after an unroutable message is taken all the same, so of a group one event at a time
        // is under way.
        Capabilities::new().max_batch(BATCH).max_batch_bytes(8 << 20).max_in_flight(IN_FLIGHT)
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        let work = Work::new(batch, report);
        let done =
            match timeout_at(deadline, self.link(deadline)).await.unwrap_or_else(|_| Err(late("publish"))) {
                Ok(link) => {
                    let all = deliver(&link, &work, self.config.max_message_size.as_len());
                    while_it_is_well(&link, deadline, "publish", all).await
                }
                Err(error) => Err(error),
            };
        if let Err(error) = done {
            work.give_up(&error);
        }
    }

    async fn probe(&self, target: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        let link = timeout_at(deadline, self.link(deadline)).await.unwrap_or_else(|_| Err(late("probe")))?;
        while_it_is_well(&link, deadline, "probe", self.ask(&link, target)).await
    }

    async fn close(&self, deadline: Instant) -> Result<(), SinkError> {
        let close = async {
            let mut state = self.state.lock().await;
            state.closed = true;
            match state.link.take() {
                Some(link) => link.close().await,
                None => Ok(()),
            }
        };
        timeout_at(deadline, close).await.unwrap_or_else(|_| {
            Err(SinkError::new(ErrorKind::Timeout, "close", "the broker did not say goodbye in time"))
        })
    }
}

impl fmt::Debug for RabbitMqSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqSink")
            .field("name", &self.context.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
