//! Finding out whether a sink and its addresses take events.

use std::sync::Arc;

use hookbus_core::{Address, ErrorKind, HealthState, Probe, RetryClass, SinkError};
use tokio::time::{Instant, timeout_at};

use super::{
    aside::{Due, SetAside},
    giving_up::UNROUTABLE_FOR,
    worker::{OVERRUN, Run, Worker},
};

impl Worker {
    /// Does what the clock asks for: probes, and deliveries whose time has come.
    pub(super) fn wake(&mut self) {
        let now = Instant::now();
        self.queue.wake(now);
        self.queue.purge();
        if let Some(intake) = &mut self.intake {
            intake.wake(now);
        }
        if self.pace.begin_probe(now) {
            self.spawn_probe(Run::ProbeSink);
        }
        while let Some(due) = self.next_due(now) {
            match due {
                Due::Ask(place) => self.spawn_probe(Run::ProbeAddress(place)),
                Due::Try(place) => self.let_one_pass(&place),
                Due::Forget(place) => {
                    self.restore(&place);
                    if self.pace.is_open() {
                        self.healthy();
                    }
                }
            }
        }
    }

    /// An address whose time has come.
    fn next_due(&mut self, now: Instant) -> Option<Due> {
        let Self { aside, queue, intake, .. } = self;
        aside.due(now, |place| {
            queue.waits_for(place) || intake.as_ref().is_some_and(|intake| intake.is_parked(place))
        })
    }

    pub(super) fn spawn_probe(&mut self, run: Run) {
        let target = match &run {
            Run::ProbeAddress(place) | Run::FirstLook(Some(place)) => Some(place.clone()),
            Run::ProbeSink | Run::FirstLook(None) | Run::Publish { .. } => None,
        };
        let sink = Arc::clone(&self.sink);
        let deadline = Instant::now() + self.config.publish_timeout;
        let task = self.tasks.spawn(async move {
            let probe = target.as_ref().map_or(Probe::Sink, Probe::Address);
            let late = || SinkError::new(ErrorKind::Timeout, "probe", "no answer before the deadline");
            timeout_at(deadline + OVERRUN, sink.probe(probe, deadline)).await.unwrap_or_else(|_| Err(late()))
        });
        self.running.insert(task.id(), run);
    }

    /// Deals with a first look at the sink or one of its addresses.
    pub(super) fn looked(&mut self, place: Option<&Address>, answer: Result<(), SinkError>) {
        match (place, answer.map_err(|error| error.at_sink(&self.name))) {
            (None, Ok(())) if self.starting() => self.healthy(),
            (None, Err(error)) if self.starting() && self.pace.is_open() => {
                return self.pause(&error, Instant::now());
            }
            (Some(place), Err(error)) if error.retry_class() == RetryClass::Address => {
                self.set_aside(place, &error, Instant::now());
            }
            // Whatever else there is, events have found out or will.
            _ => {}
        }
        if let Some(next) = self.to_look_at.pop_front() {
            self.spawn_probe(Run::FirstLook(Some(next)));
        }
    }

    pub(super) fn pause(&mut self, error: &SinkError, now: Instant) {
        self.pace.pause(error.clone(), now);
        self.set_health(HealthState::Down, Some(error.clone()));
    }

    /// Whether the address is set aside now; not, where too many are already.
    pub(super) fn set_aside(&mut self, place: &Address, error: &SinkError, now: Instant) -> bool {
        match self.aside.refused(place, error.clone(), now) {
            SetAside::TooMany => return false,
            // Also what came in for a trial meanwhile: it is later than the event that failed.
            SetAside::Already => self.hold(place),
            SetAside::New => {
                tracing::warn!(sink = %self.name, address = %place, %error, "address set aside until it takes events");
                self.hold(place);
                if self.pace.is_open() {
                    self.set_health(HealthState::Degraded, Some(error.clone()));
                }
            }
        }
        self.give_up_old(place, error, now);
        true
    }

    /// An event for this address arrived, or was refused for its own sake: it is there.
    pub(super) fn address_answered(&mut self, address: &Address) {
        if self.aside.is_empty() {
            return;
        }
        let place = address.place();
        if self.aside.answered(&place) {
            tracing::info!(sink = %self.name, address = %place, "address is back");
            self.restore(&place);
        }
    }

    /// Where an address waits for the outcome of one event, another one may be that.
    pub(super) fn try_another(&mut self, address: &Address) {
        if self.aside.is_empty() {
            return;
        }
        let place = address.place();
        if self.aside.contains(&place) && self.aside.obstacle(&place, Instant::now()).is_none() {
            self.let_one_pass(&place);
        }
    }

    /// Deals with the answer to a question about an address.
    pub(super) fn asked(&mut self, place: &Address, answer: Result<(), SinkError>) {
        let now = Instant::now();
        let error = answer.as_ref().err().cloned();
        if self.aside.asked(place, answer, now) {
            self.let_one_pass(place);
        }
        if let Some(error) = error {
            self.give_up_old(place, &error, now);
        }
    }

    /// An event was given up because its address is not there: where the address is set aside, so it stays.
    pub(super) fn still_missing(&mut self, place: &Address, error: &SinkError, now: Instant) {
        if self.aside.contains(place) {
            self.set_aside(place, error, now);
        }
    }

    /// Gives up what has waited too long for an address that is not there. What has not waited in vain for so long is
    /// kept, as is everything for an address that is there but in trouble.
    fn give_up_old(&mut self, place: &Address, error: &SinkError, now: Instant) {
        let Some(intake) = &mut self.intake else { return };
        let is_over =
            error.kind() == ErrorKind::Unroutable && self.aside.missing_for(place, now) >= UNROUTABLE_FOR;
        if let Some(then) = now.checked_sub(UNROUTABLE_FOR).filter(|_| is_over) {
            self.queue.shed(place).iter().for_each(|delivery| intake.park(place.clone(), delivery));
            intake.give_up_parked(place, then, error);
        }
    }

    /// Nothing is sent to this place. What is of the journal waits there, so that it fills no window.
    fn hold(&mut self, place: &Address) {
        self.queue.set_aside(place.clone());
        if let Some(intake) = &mut self.intake {
            self.queue.shed(place).iter().for_each(|delivery| intake.park(place.clone(), delivery));
            intake.hold(place);
        }
    }

    /// One event may be sent to this place.
    fn let_one_pass(&mut self, place: &Address) {
        self.queue.let_one_pass(place);
        if let Some(intake) = &mut self.intake {
            intake.want_one(place);
        }
    }

    /// Everything may be sent to this place again.
    pub(super) fn restore(&mut self, place: &Address) {
        self.queue.restore(place);
        if let Some(intake) = &mut self.intake {
            intake.want_all(place);
        }
    }
}
