//! What comes back: outcomes of batches, and what follows from them.

use std::time::Duration;

use hookbus_core::{ErrorKind, Outcome, Report, RetryClass, SinkError};
use tokio::{
    task::{Id, JoinError},
    time::Instant,
};

use super::{
    Delivery, Ticket, backoff,
    giving_up::{Verdict, verdict},
    worker::{Run, Worker},
};

impl Worker {
    pub(super) fn done(&mut self, done: Result<(Id, Result<(), SinkError>), JoinError>) {
        let (id, result) = match done {
            Ok(done) => done,
            Err(panic) => {
                // Not its message, which may hold a payload; the panic hook has shown that already.
                let error = SinkError::new(ErrorKind::Unexpected, "publish", "the sink panicked");
                (panic.id(), Err(error.at_sink(&self.name)))
            }
        };
        match (self.running.remove(&id), result) {
            (Some(Run::Publish { deliveries, report }), result) => {
                self.in_flight -= 1;
                if let Err(panic) = result {
                    tracing::error!(sink = %self.name, error = %panic, "the sink panicked while publishing");
                    report.set_rest(&Outcome::maybe_delivered(panic));
                }
                self.landed(deliveries, &report);
            }
            (Some(Run::ProbeSink), Ok(())) => {
                self.pace.probed();
                self.queue.purge();
                // Nothing could be tried now: what waits, waits for something else.
                if !self.queue.has_ready() {
                    self.healthy();
                }
            }
            (Some(Run::ProbeSink), Err(error)) => self.pause(&error.at_sink(&self.name), Instant::now()),
            (Some(Run::ProbeAddress(place)), answer) => {
                self.asked(&place, answer.map_err(|error| error.at_sink(&self.name)));
            }
            (Some(Run::FirstLook(place)), answer) => self.looked(place.as_ref(), answer),
            (None, _) => {}
        }
    }

    /// Deals with the outcomes of a batch, event by event, in order.
    pub(super) fn landed(&mut self, deliveries: Vec<Delivery>, report: &Report) {
        let now = Instant::now();
        let mut groups: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.envelope.group()).collect();
        groups.dedup();
        let (mut again, mut untold, mut answered) = (Vec::new(), Vec::new(), false);
        for (mut delivery, outcome) in deliveries.into_iter().zip(report.outcomes()) {
            delivery.attempts.count(&outcome);
            self.config.metrics.tried(&outcome);
            let mut when = None;
            if let Outcome::Delivered { position: Some(position), .. } = &outcome {
                let event = &delivery.envelope.event;
                let trace = event.trace_id().map(tracing::field::display);
                tracing::trace!(sink = %self.name, id = event.id().as_str(), trace, %position, "delivered");
            }
            let error = match verdict(outcome, delivery.attempts, self.missing_for(&delivery, now)) {
                Verdict::Delivered => {
                    answered = true;
                    self.address_answered(&delivery.envelope.address);
                    self.delivered(&delivery);
                    continue;
                }
                Verdict::DeadLetter(error) => {
                    answered = true;
                    let error = error.at_sink(&self.name);
                    // Given up because its address is not there: that is no sign of life.
                    if error.retry_class() == RetryClass::Address {
                        self.still_missing(&delivery.envelope.address.place(), &error, now);
                    } else {
                        self.address_answered(&delivery.envelope.address);
                    }
                    self.given_up(delivery, error);
                    continue;
                }
                Verdict::PauseLane(error) => {
                    let error = error.at_sink(&self.name);
                    self.pause(&error, now);
                    error
                }
                Verdict::SetAside(error) => {
                    answered = true;
                    let error = error.at_sink(&self.name);
                    if !self.set_aside(&delivery.envelope.address.place(), &error, now) {
                        when = Some(now + backoff::jittered(delivery.attempts.all));
                    }
                    error
                }
                Verdict::TryAgain { error, maybe_delivered } => {
                    let error = error.at_sink(&self.name);
                    if maybe_delivered {
                        self.pause(&error, now);
                    } else {
                        when = Some(now + backoff::jittered(delivery.attempts.all));
                    }
                    error
                }
            };
            // Its address had one event to try, and this one told nothing about it.
            if when.is_some() || !self.pace.is_open() {
                untold.push(delivery.envelope.address.clone());
            }
            // A request that waits no longer gets no further try; its sender will ask again.
            if delivery.ticket.again(error) {
                again.push((delivery, when));
            }
        }
        // Only now, because a later event of the batch may have set the address of an earlier one aside.
        again.retain(|(delivery, _)| !self.park(delivery));
        self.queue.landed(groups, again);
        untold.iter().for_each(|address| self.try_another(address));
        if answered {
            self.pace.answered();
            if self.pace.is_open() {
                self.healthy();
            }
        }
    }

    /// How long the address of a delivery has been missing while it waited.
    fn missing_for(&self, delivery: &Delivery, now: Instant) -> Duration {
        if self.aside.is_empty() {
            return Duration::ZERO;
        }
        let waited = now.saturating_duration_since(delivery.accepted);
        self.aside.missing_for(&delivery.envelope.address.place(), now).min(waited)
    }

    fn delivered(&self, delivery: &Delivery) {
        match (&delivery.ticket, &self.intake) {
            (Ticket::Request(request), _) => request.delivered(),
            (Ticket::Journal(id), Some(intake)) => intake.resolve(*id),
            // Invariant: whatever is of the journal came by the intake.
            (Ticket::Journal(_), None) => {}
        }
    }

    fn given_up(&mut self, delivery: Delivery, error: SinkError) {
        match (&delivery.ticket, &mut self.intake) {
            (Ticket::Request(request), _) => request.rejected(error, delivery.attempts.all),
            (Ticket::Journal(id), Some(intake)) => intake.give_up(*id, delivery, error),
            (Ticket::Journal(_), None) => {}
        }
    }

    /// Lets a delivery wait in the journal, where it is there and its place is set aside.
    fn park(&mut self, delivery: &Delivery) -> bool {
        let Some(intake) = &mut self.intake else { return false };
        if self.aside.is_empty() || delivery.ticket.entry().is_none() {
            return false;
        }
        let place = delivery.envelope.address.place();
        let is_aside = self.aside.contains(&place);
        if is_aside {
            intake.park(place, delivery);
        }
        is_aside
    }
}
