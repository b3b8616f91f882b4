#![doc = include_str!("../README.md")]

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use async_trait::async_trait;
use hookbus::core::{
    Batch, Capabilities, ErrorKind, Format, Instant, Outcome, Probe, Report, Sink, SinkContext, SinkError,
    SinkPlugin, sink::AddressKey,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
    sync::Mutex,
    time::timeout_at,
};

/// An answer is a word or two; whatever is longer comes from something that is no scaffold.
const MAX_ANSWER: u64 = 64;

/// The plugin of type `scaffold`.
#[derive(Debug)]
pub struct Scaffold;

/// The keys of a `scaffold` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScaffoldConfig {
    /// The scaffold's address and port.
    #[schemars(with = "String")]
    pub address: SocketAddr,
}

impl SinkPlugin for Scaffold {
    const TYPE: &'static str = "scaffold";
    const FORMATS: &'static [Format] = &[Format::Structured];
    const ADDRESS: &'static [AddressKey] = &[];
    type Config = ScaffoldConfig;

    // Nothing is opened here: a scaffold that is down is no reason not to start. The lane will notice and probe.
    async fn connect(config: ScaffoldConfig, _: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        let connection = Mutex::new(None);
        Ok(Box::new(ScaffoldSink { address: config.address, connection, closed: AtomicBool::new(false) }))
    }
}

#[derive(Debug)]
struct ScaffoldSink {
    address: SocketAddr,
    /// Kept between batches; given up after any error, because what is still on its way would confuse the next.
    connection: Mutex<Option<Connection>>,
    closed: AtomicBool,
}

type Connection = BufStream<TcpStream>;

impl ScaffoldSink {
    /// The connection kept or a new one, for the caller alone: if a publish is dropped, its connection goes with it.
    async fn connected(&self) -> Result<Connection, SinkError> {
        if self.closed.load(Relaxed) {
            return Err(SinkError::new(ErrorKind::Closed, "connect", "the sink was closed"));
        }
        let kept = self.connection.lock().await.take();
        match kept {
            Some(connection) => Ok(connection),
            None => {
                let connected = TcpStream::connect(self.address).await;
                connected.map(BufStream::new).map_err(|error| classify("connect", error))
            }
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
        send(&mut connection, &lines).await?;
        for at in 0..batch.len() {
            let outcome = match answer(&mut connection).await?.as_str() {
                "ok" => Outcome::delivered(None),
                "too large" => Outcome::rejected(SinkError::new(
                    ErrorKind::TooLarge,
                    "publish",
                    "the scaffold refuses it",
                )),
                // Not known to be refused is maybe delivered.
                _ => Outcome::maybe_delivered(unknown("publish")),
            };
            report.set(at, outcome);
        }
        *self.connection.lock().await = Some(connection);
        Ok(())
    }

    /// Sends an empty line, which is no event, and waits for its answer: a probe goes the way a publish does.
    async fn ping(&self) -> Result<(), SinkError> {
        let mut connection = self.connected().await?;
        send(&mut connection, b"\n").await?;
        if answer(&mut connection).await? != "ok" {
            return Err(unknown("probe"));
        }
        *self.connection.lock().await = Some(connection);
        Ok(())
    }
}

#[async_trait]
impl Sink for ScaffoldSink {
    fn capabilities(&self) -> Capabilities {
        // The scaffold goes on behind a line it refuses, so there is no promise of a prefix: one event of a group at
        // a time keeps them in order.
        Capabilities::new().max_batch(256)
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        let exchanged = timeout_at(deadline, self.exchange(batch, report)).await;
        if let Err(error) = exchanged.unwrap_or_else(|_| late("publish")) {
            // Sent, but not answered: the scaffold may have them.
            report.set_rest(&Outcome::maybe_delivered(error));
        }
    }

    async fn probe(&self, _: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        timeout_at(deadline, self.ping()).await.unwrap_or_else(|_| late("probe"))
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        self.closed.store(true, Relaxed);
        self.connection.lock().await.take();
        Ok(())
    }
}

async fn send(connection: &mut Connection, lines: &[u8]) -> Result<(), SinkError> {
    connection.write_all(lines).await.map_err(|error| classify("write", error))?;
    connection.flush().await.map_err(|error| classify("write", error))
}

/// One line, without its end. Where the end is missing, it may be the beginning of another answer.
async fn answer(connection: &mut Connection) -> Result<String, SinkError> {
    let mut answer = String::new();
    let read = connection.take(MAX_ANSWER).read_line(&mut answer).await;
    read.map_err(|error| classify("read", error))?;
    let whole = answer.strip_suffix('\n').map(str::to_owned);
    whole.ok_or_else(|| {
        SinkError::new(ErrorKind::Unavailable, "read", "the scaffold broke off within an answer")
    })
}

/// What an error of the connection means: all of them concern the whole sink, and pass.
fn classify(operation: &'static str, error: io::Error) -> SinkError {
    SinkError::new(ErrorKind::Unavailable, operation, "the scaffold cannot be reached").with_source(error)
}

fn unknown(operation: &'static str) -> SinkError {
    SinkError::new(ErrorKind::Unexpected, operation, "an answer nobody knows")
}

fn late(operation: &'static str) -> Result<(), SinkError> {
    Err(SinkError::new(ErrorKind::Timeout, operation, "no answer before the deadline"))
}
