//! `stdout`: one structured CloudEvent a line, for development and for pipes.

use std::io::Write;

use async_trait::async_trait;
use hookbus_core::{
    Batch, Capabilities, ErrorKind, Format, Instant, Outcome, Probe, Report, Sink, SinkContext, SinkError,
    SinkPlugin, sink::AddressKey,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{closed::Closed, single::Single};

/// The plugin of type `stdout`.
#[derive(Debug)]
pub struct Stdout;

/// Configuration of a `stdout` sink: there is nothing to set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "stdout")]
pub struct StdoutConfig {}

impl SinkPlugin for Stdout {
    const TYPE: &'static str = "stdout";
    const FORMATS: &'static [Format] = &[Format::Structured];
    const ADDRESS: &'static [AddressKey] = &[];
    type Config = StdoutConfig;

    async fn connect(_: StdoutConfig, _: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(StdoutSink { writer: Single::new(), closed: Closed::default() }))
    }
}

#[derive(Debug)]
struct StdoutSink {
    writer: Single,
    closed: Closed,
}

#[async_trait]
impl Sink for StdoutSink {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().accepts_prefix()
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        if let Err(closed) = self.closed.check() {
            return report.set_rest(&Outcome::retry(closed));
        }
        let mut lines = Vec::with_capacity(batch.body_bytes() + 512 * batch.len());
        for envelope in batch.iter() {
            envelope.event.write_structured(&mut lines);
        }
        let write = move || {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&lines).and_then(|()| stdout.flush())
        };
        report.set_rest(&match self.writer.run("write", deadline, write).await {
            Ok(Ok(())) => Outcome::delivered(None),
            Ok(Err(error)) => Outcome::maybe_delivered(
                SinkError::new(ErrorKind::Unavailable, "write", "stdout takes no more").with_source(error),
            ),
            Err(not_begun) if not_begun.kind() == ErrorKind::Unavailable => Outcome::retry(not_begun),
            Err(cut) => Outcome::maybe_delivered(cut),
        });
    }

    async fn probe(&self, _: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        self.closed.check()?;
        self.writer.run("probe", deadline, || ()).await
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        self.closed.close();
        Ok(())
    }
}
