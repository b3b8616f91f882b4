//! One batch on its way through one producer.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use hookbus_core::{Batch, ErrorKind, Instant, Outcome, Position, Report, RetryClass, SinkError};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::timeout_at;

use crate::{
    call::{Call, Landing, Slot},
    classify::{coded, judge, refuses_batch},
    context::Context,
    producer::SharedGeneration,
    sink::{KafkaSink, topic},
};

/// Events of one topic with the driver at once, for one call: a partition without a leader must not fill the queue that
/// all topics share.
const PER_TOPIC: usize = 1024;
/// How long the reports of what was purged are waited for. They are all made at once.
const PURGED: Duration = Duration::from_millis(200);

/// A batch, and how far it is.
pub(crate) struct Sending<'a> {
    sink: &'a KafkaSink,
    generation: &'a SharedGeneration,
    batch: &'a Batch,
    report: &'a Report,
    call: Arc<Call>,
    unsent: VecDeque<usize>,
    /// Events with the driver, in all and by topic.
    in_flight: usize,
    by_topic: HashMap<&'a str, usize>,
    /// Topics that turned out not to be there, and why.
    missing: HashMap<&'a str, SinkError>,
}

impl<'a> Sending<'a> {
    /// These events of a batch, in their order.
    pub(crate) fn new(
        sink: &'a KafkaSink,
        generation: &'a SharedGeneration,
        batch: &'a Batch,
        report: &'a Report,
        events: Vec<usize>,
    ) -> Self {
        let (call, by_topic, missing) = (Arc::default(), HashMap::new(), HashMap::new());
        let unsent = events.into();
        Self { sink, generation, batch, report, call, unsent, in_flight: 0, by_topic, missing }
    }

    /// Sends and waits until every event has its outcome.
    ///
    /// Each round first looks at what has landed, because that makes room and may end the generation; then hands over
    /// what there is room for; then waits for the next landing. At the deadline, and at the first event that is not
    /// delivered, the generation is given up: the driver then reports at once on all it has, and sends no more of it
    /// (what a frozen broker has in its socket it may still take). What is left goes again with the next generation, in order; that is the lane's business.
    pub(crate) async fn run(mut self, context: &Context, deadline: Instant) {
        let mut until = deadline;
        loop {
            self.settle();
            // Room that comes about from here on is noticed, if this call itself has nothing to wait for.
            let room = self.generation.room().freed().notified();
            tokio::pin!(room);
            if self.in_flight == 0 {
                room.as_mut().enable();
            }
            if self.generation.is_over() {
                let reason = self.reason();
                self.unsent.drain(..).for_each(|at| self.report.set(at, Outcome::retry(reason.clone())));
            } else {
                self.fill();
            }
            if self.in_flight == 0 && self.unsent.is_empty() {
                return;
            }
            let waited = match self.in_flight {
                0 => timeout_at(until, room).await,
                _ => timeout_at(until, self.call.more()).await,
            };
            if waited.is_err() {
                if self.generation.is_over() {
                    return;
                }
                self.generation.give_up(&context.outage("publish"));
                until = Instant::now() + PURGED;
            }
        }
    }

    /// Hands over what there is room for, in order.
    fn fill(&mut self) {
        let mut held = VecDeque::new();
        while let Some(at) = self.unsent.pop_front() {
            let envelope = &self.batch[at];
            let topic = topic(envelope);
            if let Some(error) = self.missing.get(topic) {
                self.report.set(at, Outcome::retry(error.clone()));
                continue;
            }
            let with_driver = self.by_topic.entry(topic).or_default();
            // Later ones of this topic find the same, so that they stay behind this one.
            if *with_driver >= PER_TOPIC {
                held.push_back(at);
                continue;
            }
            let Some(place) = self.generation.room().take() else {
                self.unsent.push_front(at);
                break;
            };
            match self.generation.send(envelope, topic, Slot::new(&self.call, at, place)) {
                Ok(()) => {
                    *with_driver += 1;
                    self.in_flight += 1;
                }
                Err(code) => self.refused(at, code),
            }
        }
        held.append(&mut self.unsent);
        self.unsent = held;
    }

    /// The driver did not take an event: it has certainly not been sent.
    fn refused(&mut self, at: usize, code: Code) {
        let error = coded("publish", code);
        match error.kind() {
            // By the driver's own limits, and so of this event alone.
            ErrorKind::TooLarge | ErrorKind::InvalidEvent => self.report.set(at, Outcome::rejected(error)),
            ErrorKind::Unroutable => self.not_there(at, error),
            _ => {
                self.generation.give_up(&error);
                self.report.set(at, Outcome::retry(self.reason()));
            }
        }
    }

    /// Fills in what has landed.
    fn settle(&mut self) {
        for (at, landing) in self.call.take() {
            self.in_flight -= 1;
            let topic = topic(&self.batch[at]);
            self.by_topic.entry(topic).and_modify(|with_driver| *with_driver -= 1);
            self.landed(at, topic, landing);
        }
    }

    fn landed(&mut self, at: usize, topic: &'a str, landing: Landing) {
        let code = match landing {
            // Reported because a later one was taken: the driver concludes that this one must be there, and it may not.
            Ok((_, offset)) if offset < 0 => {
                let message = "the driver does not know where it is";
                let error = SinkError::new(ErrorKind::Unavailable, "publish", message);
                self.generation.give_up(&error);
                return self.report.set(at, Outcome::maybe_delivered(error));
            }
            Ok((partition, offset)) => {
                let position = Position::new(format!("{topic}/{partition}@{offset}"));
                return self.report.set(at, Outcome::delivered(position));
            }
            Err(code) => code,
        };
        let error = coded("publish", code);
        if self.generation.is_fatal() {
            self.generation.give_up(&error);
        }
        match judge(code).0 {
            // Taken back, because of something else.
            _ if matches!(code, Code::PurgeQueue | Code::PurgeInflight) => {
                self.report.set(at, Outcome::maybe_delivered(self.reason()));
            }
            // All events of the topic fail together, so none overtakes another. The other topics may go on, unless the
            // brokers said it, and so the driver has given up: such a topic is tried apart from now on.
            ErrorKind::Unroutable => {
                if self.generation.is_over() {
                    self.sink.topics.suspect(topic);
                }
                self.not_there(at, error);
            }
            _ if refuses_batch(code) => {
                // The driver goes on with later events, or not at all: either way this generation is over.
                if self.generation.batching().alone && error.retry_class() == RetryClass::Never {
                    self.generation.give_up(&error);
                    self.report.set(at, Outcome::rejected(error));
                } else {
                    self.sink.topics.forget(topic);
                    self.sink.go_alone(topic, &error);
                    let message = "the brokers refused a batch because of an event in it; its events go again one by one";
                    let again = SinkError::new(ErrorKind::Overloaded, "publish", message).with_source(error);
                    self.generation.give_up(&again);
                    self.report.set(at, Outcome::retry(again));
                }
            }
            _ => {
                self.generation.give_up(&error);
                self.report.set(at, Outcome::maybe_delivered(error));
            }
        }
    }

    /// The topic of an event is not there any more.
    fn not_there(&mut self, at: usize, error: SinkError) {
        let topic = topic(&self.batch[at]);
        self.sink.topics.forget(topic);
        self.report.set(at, Outcome::retry(error.clone()));
        self.missing.insert(topic, error);
    }

    fn reason(&self) -> SinkError {
        let unknown = || SinkError::new(ErrorKind::Unavailable, "publish", "the producer was given up");
        self.generation.reason().unwrap_or_else(unknown)
    }
}

impl Drop for Sending<'_> {
    // Whoever gives this call up knows what was confirmed by then, and nothing of it goes on behind their back.
    fn drop(&mut self) {
        self.settle();
        if self.in_flight > 0 {
            let message = "the call was given up before its end";
            self.generation.give_up(&SinkError::new(ErrorKind::Timeout, "publish", message));
        }
    }
}
