//! The sink: batches as pipelines of `XADD`.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use hookbus_core::{
    Batch, Capabilities, ErrorKind, Instant, Outcome, Probe, Report, RetryClass, Sink, SinkError,
};
use redis::{Cmd, Value};
use tokio::time::timeout_at;

use crate::{
    classify::{classify, is_forbidden_command},
    link::{Connection, Link},
    message::Trim,
    pipeline::{Part, parts},
};

#[derive(Debug)]
pub(crate) struct RedisSink {
    link: Link,
}

impl RedisSink {
    pub(crate) fn new(link: Link) -> Self {
        Self { link }
    }

    fn trim(&self) -> Trim {
        let config = self.link.config();
        if let Some(entries) = config.max_len {
            return Trim::MaxLen(entries);
        }
        let Some(age) = config.max_age else { return Trim::Never };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Trim::MinId(now.saturating_sub(age.get()).as_millis())
    }

    /// Sends all parts at once, one behind the other, and fills in what the server answers to each.
    ///
    /// Every part counts for itself: what was answered before the connection broke stands. Where replicas have to
    /// confirm, the answers are kept until they have: `WAIT` asks about everything written on its connection so far,
    /// so it is asked last, once.
    async fn send(
        &self,
        connection: &Connection,
        parts: &[Part],
        report: &Report,
        deadline: Instant,
    ) -> Result<(), SinkError> {
        let replicas = self.link.config().confirm.replicas();
        let mut answers: FuturesOrdered<_> = parts
            .iter()
            .map(|part| {
                let mut driver = connection.driver.clone();
                async move { (part, part.commands.query_async::<Vec<Value>>(&mut driver).await) }
            })
            .collect();
        let (mut failed, mut written) = (None, Vec::new());
        loop {
            let Ok(answer) = timeout_at(deadline, answers.next()).await else {
                return Err(late());
            };
            let Some((part, answer)) = answer else { break };
            match answer {
                Ok(values) => {
                    let outcomes = part.read(values);
                    failed = failed.or_else(|| outcomes.iter().find_map(|(_, outcome)| of_server(outcome)));
                    match replicas {
                        Some(_) => written.push(outcomes),
                        None => outcomes.into_iter().for_each(|(at, outcome)| report.set(at, outcome)),
                    }
                }
                Err(error) => {
                    let error = classify("publish", error);
                    // Sent perhaps: the driver does not tell.
                    part.set_all(report, &Outcome::maybe_delivered(error.clone()));
                    failed.get_or_insert(error);
                }
            }
        }
        if let Some(replicas) = replicas {
            let confirmed = self.wait(connection, replicas, deadline).await;
            for (at, outcome) in written.into_iter().flatten() {
                report.set(
                    at,
                    match (outcome, &confirmed) {
                        (Outcome::Delivered { .. }, Err(error)) => Outcome::maybe_delivered(error.clone()),
                        (outcome, _) => outcome,
                    },
                );
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Waits until so many replicas have what was written on this connection.
    async fn wait(&self, connection: &Connection, replicas: u16, deadline: Instant) -> Result<(), SinkError> {
        // Not all of the time that is left: the server looks at its clock ten times a second, and the answer has to
        // travel back.
        let left = deadline.saturating_duration_since(Instant::now()) * 3 / 4;
        // Zero would be no limit at all.
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut wait = Cmd::new();
        wait.arg("WAIT").arg(replicas).arg(millis);
        let mut driver = connection.driver.clone();
        let answer = timeout_at(deadline, wait.query_async::<i64>(&mut driver)).await.map_err(|_| late())?;
        match answer.map_err(|error| classify("wait", error))? {
            have if have >= i64::from(replicas) => Ok(()),
            have => {
                let message = format!("{have} of {replicas} replicas have confirmed");
                Err(SinkError::new(ErrorKind::Timeout, "wait", message))
            }
        }
    }

    async fn ask(
        &self,
        target: Probe<'_>,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<(), SinkError> {
        let mut driver = connection.driver.clone();
        let failed = |error| classify("probe", error);
        match target {
            Probe::Sink => {
                Cmd::new().arg("PING").query_async::<()>(&mut driver).await.map_err(failed)?;
                // Where an event needs replicas, so does the sink.
                match self.link.config().confirm.replicas() {
                    Some(replicas) => self.wait(connection, replicas, deadline).await,
                    None => Ok(()),
                }
            }
            Probe::Address(address) => {
                let stream = address.get("stream").unwrap_or_default();
                match Cmd::new().arg("TYPE").arg(stream).query_async::<String>(&mut driver).await {
                    Ok(found) if matches!(found.as_str(), "none" | "stream") => Ok(()),
                    Ok(found) => {
                        let message = format!("the key holds no stream, but this: {found}");
                        Err(SinkError::new(ErrorKind::Unroutable, "probe", message))
                    }
                    // Whoever may only write can find out only by writing.
                    Err(error) if is_forbidden_command(&error) => Ok(()),
                    Err(error) => Err(failed(error)),
                }
            }
        }
    }
}

/// The trouble of the server as a whole that an outcome tells of. A server that was a primary, or that has forgotten
/// its users, keeps its connections: another one may lead to another server.
fn of_server(outcome: &Outcome) -> Option<SinkError> {
    match outcome {
        Outcome::Retry { error, .. } if error.retry_class() == RetryClass::Sink => Some(error.clone()),
        _ => None,
    }
}

fn late() -> SinkError {
    SinkError::new(ErrorKind::Timeout, "publish", "no answer before the deadline")
}

#[async_trait]
impl Sink for RedisSink {
    fn capabilities(&self) -> Capabilities {
        // Two batches, so that one is made while the server works on the other.
        Capabilities::new().max_batch(1024).max_batch_bytes(8 << 20).max_in_flight(2).accepts_prefix()
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        let connection = match self.link.connection(deadline).await {
            Ok(connection) => connection,
            Err(error) => return report.set_rest(&Outcome::retry(error)),
        };
        let mut too_large = Vec::new();
        for (at, envelope) in batch.iter().enumerate() {
            let size = envelope.event.body().len();
            if size > connection.largest {
                let message = format!("{size} bytes are more than the server takes ({})", connection.largest);
                report.set(at, Outcome::rejected(SinkError::new(ErrorKind::TooLarge, "publish", message)));
                too_large.push(at);
            }
        }
        let parts = parts(batch, &self.trim(), &too_large);
        if let Err(error) = self.send(&connection, &parts, report, deadline).await {
            // What was not answered is unknown, and so is which answer would come next.
            self.link.lost(&connection).await;
            report.set_rest(&Outcome::maybe_delivered(error));
        }
    }

    async fn probe(&self, target: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        let connection = self.link.connection(deadline).await?;
        let late = || Err(SinkError::new(ErrorKind::Timeout, "probe", "no answer before the deadline"));
        let answer =
            timeout_at(deadline, self.ask(target, &connection, deadline)).await.unwrap_or_else(|_| late());
        // After silence or nonsense the next answer may belong to this question.
        let broken = |error: &SinkError| matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable);
        if answer.as_ref().is_err_and(broken) {
            self.link.lost(&connection).await;
        }
        answer
    }

    async fn close(&self, deadline: Instant) -> Result<(), SinkError> {
        let late = || SinkError::new(ErrorKind::Timeout, "close", "a connect is still under way");
        timeout_at(deadline, self.link.close()).await.map_err(|_| late())
    }
}
