//! A sink for the destination that is right but for one flaw, chosen by its type.

use std::{
    collections::BTreeMap,
    fmt, io,
    marker::PhantomData,
    net::SocketAddr,
    sync::{
        Mutex as Lock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hookbus_core::{
    Address, Batch, Capabilities, Envelope, ErrorKind, Instant, Outcome, Position, Probe, Report, SecretRef,
    Sink, SinkContext, SinkError, SinkPlugin, registry::Invalid, sink::AddressKey,
};
use hookbus_testkit::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
    sync::{Mutex, MutexGuard},
    time::timeout_at,
};

use super::{
    destination::LONGEST,
    flaw::{Flaw, Flawed},
};

#[derive(Debug)]
pub(crate) struct Lines<K>(PhantomData<K>);

/// Configuration of a `lines` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LinesConfig {
    /// Where the destination listens.
    #[schemars(with = "String")]
    address: SocketAddr,
    /// Its token.
    token: SecretRef,
}

impl<K: Flawed> SinkPlugin for Lines<K> {
    const TYPE: &'static str = "lines";
    const ADDRESS: &'static [AddressKey] = &[AddressKey::required("topic")];
    type Config = LinesConfig;

    fn validate(_: &LinesConfig) -> Result<(), Invalid> {
        match K::FLAW {
            Flaw::Picky => Err(Invalid { key: "address", message: "I do not like it".into() }),
            _ => Ok(()),
        }
    }

    fn credentials(config: &LinesConfig) -> Vec<&SecretRef> {
        vec![&config.token]
    }

    async fn connect(config: LinesConfig, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        let sink = LinesSink {
            flaw: K::FLAW,
            config,
            context,
            connection: Mutex::default(),
            closed: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            shown: Lock::default(),
            hoard: Lock::default(),
        };
        if K::FLAW == Flaw::ConnectsAtOnce {
            let mut connection = sink.connection().await?;
            ask(connection.as_mut().unwrap(), b"ping\n").await.map_err(|error| unavailable(&error))?;
        }
        Ok(Box::new(sink))
    }
}

struct LinesSink {
    flaw: Flaw,
    config: LinesConfig,
    context: SinkContext,
    connection: Mutex<Option<BufStream<TcpStream>>>,
    closed: AtomicBool,
    calls: AtomicUsize,
    busy: AtomicBool,
    /// What flaws show.
    shown: Lock<String>,
    hoard: Lock<Vec<Envelope>>,
}

impl LinesSink {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    async fn connection(&self) -> Result<MutexGuard<'_, Option<BufStream<TcpStream>>>, SinkError> {
        let mut kept = self.connection.lock().await;
        if kept.is_none() {
            if self.is(Flaw::NeverReconnects) && self.calls.fetch_add(1, Relaxed) > 0 {
                return Err(SinkError::new(ErrorKind::Unavailable, "connect", "once is enough"));
            }
            let token =
                String::from_utf8(self.context.secret(&self.config.token)?.expose().to_vec()).unwrap();
            if self.is(Flaw::LeaksSecret) {
                *self.shown.lock().unwrap() = token.clone();
            }
            let connected = TcpStream::connect(self.config.address).await;
            let mut connection = BufStream::new(connected.map_err(|error| unavailable(&error))?);
            let hello = format!("hello {token}\n");
            connection.write_all(hello.as_bytes()).await.map_err(|error| unavailable(&error))?;
            *kept = Some(connection);
        }
        Ok(kept)
    }

    /// Sends the events at these places and takes their answers.
    async fn exchange(&self, batch: &Batch, places: &[usize], report: &Report) -> Result<(), SinkError> {
        let mut kept = self.connection().await.inspect_err(|error| {
            report.set_rest(&Outcome::retry(error.clone()));
        })?;
        // Taken out, and put back when all is well: what is left of a failed or dropped exchange would confuse.
        let mut connection = kept.take().unwrap();
        let lines: Vec<u8> = places
            .iter()
            .flat_map(|at| {
                let to = if self.is(Flaw::OneAddress) { &batch[places[0]] } else { &batch[*at] };
                self.line(&batch[*at], &to.address)
            })
            .collect();
        let sent = async {
            connection.write_all(&lines).await?;
            connection.flush().await
        };
        sent.await.map_err(|error| unavailable(&error))?;
        if self.is(Flaw::AcksEarly) {
            report.set_rest(&Outcome::delivered(None));
        }
        let mut later = Vec::new();
        for at in places {
            if self.is(Flaw::DropsOne) && is_dropped(&batch[*at]) {
                report.set(*at, Outcome::delivered(None));
                continue;
            }
            let answer = self.answer(&mut connection).await.map_err(|error| unavailable(&error))?;
            if self.is(Flaw::LeavesOpen) && *at + 1 == batch.len() {
                continue;
            }
            if self.is(Flaw::SendsTwice) && is_dropped(&batch[*at]) {
                self.answer(&mut connection).await.map_err(|error| unavailable(&error))?;
            }
            let outcome = self.outcome(&answer, &batch[*at]);
            match self.flaw {
                Flaw::Swallows => later.push((*at, outcome)),
                Flaw::ChargesNeighbour => report.set((at + 1) % batch.len(), outcome),
                Flaw::RejectsAll if matches!(outcome, Outcome::Rejected { .. }) => report.set_rest(&outcome),
                _ => report.set(*at, outcome),
            }
        }
        later.into_iter().for_each(|(at, outcome)| report.set(at, outcome));
        *kept = Some(connection);
        Ok(())
    }

    fn line(&self, envelope: &Envelope, to: &Address) -> Vec<u8> {
        if self.is(Flaw::DropsOne) && is_dropped(envelope) {
            return Vec::new();
        }
        let mut event = Vec::new();
        envelope.event.write_structured(&mut event);
        let without = match self.flaw {
            Flaw::LosesProof => Some("hookbusproof"),
            Flaw::LosesAttribute => Some("subject"),
            Flaw::RewritesBody => Some(""),
            _ => None,
        };
        if let Some(without) = without {
            let mut parsed: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&event).unwrap();
            parsed.remove(without);
            event = serde_json::to_vec(&parsed).unwrap();
            event.push(b'\n');
        }
        // Invariant: the topic is required.
        let line = [to.get("topic").unwrap().as_bytes(), b" ", &event].concat();
        if self.is(Flaw::SendsTwice) && is_dropped(envelope) { line.repeat(2) } else { line }
    }

    async fn answer(&self, connection: &mut BufStream<TcpStream>) -> io::Result<String> {
        if self.is(Flaw::Believes) {
            return connection
                .fill_buf()
                .await
                .map(|some| if some.is_empty() { "nothing".into() } else { "ok 1".into() });
        }
        line(connection).await
    }

    fn outcome(&self, answer: &str, envelope: &Envelope) -> Outcome {
        let error = |kind| {
            let message = if self.is(Flaw::LeaksInErrors) {
                format!("{:?}", envelope.event.body())
            } else {
                "no".into()
            };
            SinkError::new(kind, "publish", message)
        };
        match answer.strip_prefix("ok ") {
            Some(_) if self.is(Flaw::TooStrict) && envelope.event.body().len() > LONGEST / 2 => {
                Outcome::rejected(error(ErrorKind::TooLarge))
            }
            Some(_) if self.is(Flaw::RepeatsPositions) => Outcome::delivered(Position::new("1")),
            Some(position) => Outcome::delivered(Position::new(position)),
            None if answer == "missing" => Outcome::retry(error(ErrorKind::Unroutable)),
            None if answer == "too large" => Outcome::rejected(error(ErrorKind::TooLarge)),
            None => Outcome::maybe_delivered(error(ErrorKind::Unavailable)),
        }
    }

    async fn publish_all(&self, batch: &Batch, report: &Report) -> Result<(), SinkError> {
        let mut places: Vec<_> = (0..batch.len()).collect();
        if self.is(Flaw::OneAtATime) && self.connection.try_lock().is_err() {
            report.set_rest(&Outcome::delivered(None));
            return Ok(());
        }
        if self.is(Flaw::Defers) {
            return self.defer(batch, report).await;
        }
        if self.is(Flaw::Reorders) {
            places.reverse();
        }
        let exchanged = self.exchange(batch, &places, report).await;
        if exchanged.is_err() && self.is(Flaw::GoesOn) {
            // In haste: what the last connection took is unknown, and half of the rest seems a good guess.
            let half: Vec<_> = places.split_off(places.len() / 2);
            let _ = self.exchange(batch, &half, report).await;
        }
        exchanged
    }

    /// Keeps the first event of the tenth batch until the eleventh has been sent.
    async fn defer(&self, batch: &Batch, report: &Report) -> Result<(), SinkError> {
        let places: Vec<_> = (0..batch.len()).collect();
        match self.calls.fetch_add(1, Relaxed) {
            10 => {
                self.hoard.lock().unwrap().push(batch[0].clone());
                report.set(0, Outcome::delivered(None));
                self.exchange(batch, &places[1..], report).await
            }
            11 => {
                self.exchange(batch, &places, report).await?;
                let deferred = Batch::new(std::mem::take(&mut *self.hoard.lock().unwrap()));
                self.exchange(&deferred, &[0], &Report::new(1)).await
            }
            _ => self.exchange(batch, &places, report).await,
        }
    }
}

#[async_trait]
impl Sink for LinesSink {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().accepts_prefix().max_in_flight(3)
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        if self.closed.load(Relaxed) && !self.is(Flaw::StaysOpen) {
            return report.set_rest(&Outcome::retry(SinkError::new(ErrorKind::Closed, "publish", "closed")));
        }
        if self.is(Flaw::Poisoned) && self.busy.swap(true, Relaxed) {
            return report.set_rest(&Outcome::retry(SinkError::new(
                ErrorKind::Unavailable,
                "publish",
                "busy",
            )));
        }
        if self.is(Flaw::LeaksPayload) {
            *self.shown.lock().unwrap() = String::from_utf8_lossy(batch[0].event.body()).into_owned();
        }
        if self.is(Flaw::Hoards) {
            self.hoard.lock().unwrap().extend(batch.iter().cloned());
        }
        let deadline = match self.flaw {
            Flaw::Hangs => deadline + Duration::from_secs(3600),
            Flaw::Impatient => Instant::now() + Duration::from_millis(20),
            _ => deadline,
        };
        let published = timeout_at(deadline, self.publish_all(batch, report)).await;
        let late = || Err(SinkError::new(ErrorKind::Timeout, "publish", "no answer before the deadline"));
        if let Err(error) = published.unwrap_or_else(|_| late()) {
            let certain = self.is(Flaw::Certain);
            report.set_rest(&if certain { Outcome::retry(error) } else { Outcome::maybe_delivered(error) });
        }
        self.busy.store(false, Relaxed);
    }

    async fn probe(&self, target: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        if self.is(Flaw::ProbeLies) {
            return Ok(());
        }
        let exchange = async {
            let mut kept = self.connection().await?;
            let mut connection = kept.take().unwrap();
            ask(&mut connection, b"ping\n").await.map_err(|error| unavailable(&error))?;
            if let Probe::Address(address) = target {
                let topic = address.get("topic").unwrap();
                if self.is(Flaw::ProbeSends) {
                    let mut event = Vec::new();
                    hookbus_testkit::TestEvent::new("fastpix").build().write_structured(&mut event);
                    let line = [topic.as_bytes(), b" ", &event].concat();
                    ask(&mut connection, &line).await.map_err(|error| unavailable(&error))?;
                }
                let answer = ask(&mut connection, format!("? {topic}\n").as_bytes()).await;
                if answer.map_err(|error| unavailable(&error))? == "missing" {
                    return Err(SinkError::new(ErrorKind::Unroutable, "probe", "missing"));
                }
            }
            *kept = Some(connection);
            Ok(())
        };
        let late = || Err(SinkError::new(ErrorKind::Timeout, "probe", "no answer before the deadline"));
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| late())
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        if self.closed.swap(true, Relaxed) && self.is(Flaw::ClosesOnce) {
            return Err(SinkError::new(ErrorKind::Closed, "close", "closed already"));
        }
        self.connection.lock().await.take();
        Ok(())
    }
}

impl fmt::Debug for LinesSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinesSink({} {})", self.config.address, self.shown.lock().unwrap())
    }
}

async fn ask(connection: &mut BufStream<TcpStream>, question: &[u8]) -> io::Result<String> {
    connection.write_all(question).await?;
    connection.flush().await?;
    line(connection).await
}

async fn line(connection: &mut BufStream<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line).await?;
    // Without its end it may be the beginning of another.
    line.strip_suffix('\n').map(str::to_owned).ok_or(io::ErrorKind::UnexpectedEof.into())
}

fn is_dropped(envelope: &Envelope) -> bool {
    envelope.event.id().as_str() == "many-123"
}

fn unavailable(error: &io::Error) -> SinkError {
    SinkError::new(ErrorKind::Unavailable, "publish", error.kind().to_string())
}
