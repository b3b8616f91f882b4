#![doc = include_str!("../README.md")]

use std::{io, net::SocketAddr};

use async_trait::async_trait;
use hookbus::core::{
    Batch, Capabilities, ErrorKind, Instant, Outcome, Probe, Report, Sink, SinkContext, SinkError,
    SinkPlugin, sink::AddressKey,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
    sync::Mutex,
    time::timeout_at,
};

/// The plugin of type `collector`.
#[derive(Debug)]
pub struct Collector;

/// The keys of a `collector` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// The collector's address and port.
    #[schemars(with = "String")]
    pub address: SocketAddr,
}

impl SinkPlugin for Collector {
    const TYPE: &'static str = "collector";
    const ADDRESS: &'static [AddressKey] = &[];
    type Config = CollectorConfig;

    // Nothing is opened here: a collector that is down is no reason not to start. The lane will notice and probe.
    async fn connect(config: CollectorConfig, _: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(CollectorSink { address: config.address, connection: Mutex::new(None) }))
    }
}

#[derive(Debug)]
struct CollectorSink {
    address: SocketAddr,
    /// Kept between batches; given up after any error, because what is still on its way would confuse the next.
    connection: Mutex<Option<BufStream<TcpStream>>>,
}

impl CollectorSink {
    async fn connected(&self) -> Result<BufStream<TcpStream>, SinkError> {
        let kept = self.connection.lock().await.take();
        match kept {
            Some(connection) => Ok(connection),
            None => TcpStream::connect(self.address)
                .await
                .map(BufStream::new)
                .map_err(|error| unavailable("connect", error)),
        }
    }

    /// Sends all lines, then reads one answer per line. What is answered is known, whatever happens afterwards.
    async fn exchange(&self, batch: &Batch, report: &Report) -> Result<(), SinkError> {
        let mut connection = self.connected().await.inspect_err(|error| {
            // Nothing was sent: certainly not delivered.
            report.set_rest(&Outcome::retry(error.clone()));
        })?;
        let mut lines = Vec::new();
        for envelope in batch.iter() {
            envelope.event.write_structured(&mut lines);
        }
        connection.write_all(&lines).await.map_err(|error| unavailable("write", error))?;
        connection.flush().await.map_err(|error| unavailable("write", error))?;
        for at in 0..batch.len() {
            let mut answer = String::new();
            connection.read_line(&mut answer).await.map_err(|error| unavailable("read", error))?;
            match answer.trim_end() {
                "ok" => report.set(at, Outcome::delivered(None)),
                "too large" => report.set(at, Outcome::rejected(refused(ErrorKind::TooLarge, "too large"))),
                "" => return Err(refused(ErrorKind::Unavailable, "the collector closed the connection")),
                _ => report.set(at, Outcome::retry(refused(ErrorKind::Unexpected, "an answer nobody knows"))),
            }
        }
        *self.connection.lock().await = Some(connection);
        Ok(())
    }
}

#[async_trait]
impl Sink for CollectorSink {
    fn capabilities(&self) -> Capabilities {
        // The collector goes on behind a line it refuses, so there is no promise of a prefix: one event of a group at
        // a time keeps them in order.
        Capabilities::new().max_batch(256)
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        let late = || Err(refused(ErrorKind::Timeout, "no answer before the deadline"));
        if let Err(error) =
            timeout_at(deadline, self.exchange(batch, report)).await.unwrap_or_else(|_| late())
        {
            // Sent, but not answered: the collector may have them.
            report.set_rest(&Outcome::maybe_delivered(error));
        }
    }

    async fn probe(&self, _: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        let connection = timeout_at(deadline, self.connected()).await;
        let connection =
            connection.unwrap_or_else(|_| Err(refused(ErrorKind::Timeout, "no connection in time")))?;
        *self.connection.lock().await = Some(connection);
        Ok(())
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        self.connection.lock().await.take();
        Ok(())
    }
}

fn unavailable(operation: &'static str, error: io::Error) -> SinkError {
    SinkError::new(ErrorKind::Unavailable, operation, "the collector cannot be reached").with_source(error)
}

fn refused(kind: ErrorKind, message: &'static str) -> SinkError {
    SinkError::new(kind, "publish", message)
}
