//! One attempt: messages on one channel, and their confirmations as they arrive.

use futures_util::{FutureExt as _, StreamExt as _, stream};
use hookbus_core::{ErrorKind, SinkError};
use lapin::{
    Channel, Confirmation, PublisherConfirm, message::BasicReturnMessage, options::BasicPublishOptions,
};

use crate::{
    message::{Message, exchange, routing_key},
    work::Work,
};

/// What the broker takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) body: usize,
    pub(crate) frame: usize,
}

/// Publishes these events and waits for all confirmations. Each has an outcome then, but those that the returned error
/// left in doubt.
///
/// # How a returned message is charged to its event
///
/// The broker says `basic.return` before it confirms the same message. The driver keeps returned messages and hands
/// the oldest to whichever confirmation of the channel it resolves next, so an `Ack` may carry a stranger and the
/// stranger's own `Ack` carries nothing. Hence a channel is used by one attempt only, a returned message is found by
/// what was sent (exchange, routing key, headers, body), and of the confirmations: one that carries nothing was
/// resolved while no returned message was waiting, so its own, if it had one, is with a confirmation that was resolved
/// earlier and is therefore ready by now; all that are ready are looked at before any counts. One that carries a
/// stranger may have its own return behind it in the line; the line is empty once every confirmation is there, because
/// each returned message has one of its own, so it waits for that.
///
/// Messages are written one after the other: the driver numbers a message and queues it in two steps, and on a channel
/// that the broker has closed it would send all that is queued.
pub(crate) async fn attempt(
    channel: &Channel,
    work: &Work<'_>,
    events: &[usize],
    limits: Limits,
) -> Result<(), lapin::Error> {
    let written = stream::iter(events.to_vec()).filter_map(|at| write(channel, work, at, limits));
    let confirmed = |(at, written): (usize, Result<PublisherConfirm, lapin::Error>)| async move {
        match written {
            Ok(confirmation) => (at, confirmation.await),
            Err(error) => (at, Err(error)),
        }
    };
    let mut answers = written.map(confirmed).buffer_unordered(events.len().max(1)).boxed();
    let mut ledger = Ledger { work, acked: Vec::new(), held: Vec::new(), strange: false, error: None };
    while let Some((at, answer)) = answers.next().await {
        ledger.enter(at, answer);
        while let Some(Some((at, answer))) = answers.next().now_or_never() {
            ledger.enter(at, answer);
        }
        ledger.count_acked();
    }
    ledger.finish()
}

/// Writes one message to the socket. Nothing, where it was rejected instead.
async fn write(
    channel: &Channel,
    work: &Work<'_>,
    at: usize,
    limits: Limits,
) -> Option<(usize, Result<PublisherConfirm, lapin::Error>)> {
    let envelope = work.envelope(at);
    let (message, body) = (Message::of(envelope), envelope.event.body());
    if let Err(error) = message.check(body.len(), limits.body, limits.frame) {
        work.rejected(at, error);
        return None;
    }
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    work.sending(at);
    let written =
        channel.basic_publish(message.exchange, message.routing_key, options, body, message.properties).await;
    if written.is_err() {
        // It was not written to its end, so the broker cannot have it.
        work.not_sent(at);
    }
    Some((at, written))
}

/// What the confirmations of an attempt say together.
struct Ledger<'w, 'b> {
    work: &'w Work<'b>,
    /// Confirmed, with nothing returned.
    acked: Vec<usize>,
    /// Confirmed, with another message returned.
    held: Vec<usize>,
    /// Whether a message was returned that nobody here has sent.
    strange: bool,
    error: Option<lapin::Error>,
}

impl Ledger<'_, '_> {
    fn enter(&mut self, at: usize, answer: Result<Confirmation, lapin::Error>) {
        match answer {
            Ok(Confirmation::Ack(None)) => self.acked.push(at),
            Ok(Confirmation::Ack(Some(returned))) => {
                self.charge(&returned);
                self.held.push(at);
            }
            Ok(Confirmation::Nack(returned)) => {
                if let Some(returned) = returned {
                    self.charge(&returned);
                }
                // A queue is full, or failed; other queues the message was routed to may have it.
                let text = "a queue does not take the message; is it full?";
                // Other addresses have other queues.
                self.work.unknown(at, SinkError::new(ErrorKind::Overloaded, "publish", text).of_address());
            }
            Ok(Confirmation::NotRequested) => {
                let text = "the channel does not confirm";
                self.work.unknown(at, SinkError::new(ErrorKind::Unexpected, "publish", text));
            }
            // The broker's own words are worth more than that the channel is closed.
            Err(error) if error.is_amqp_error() => self.error = Some(error),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
    }

    /// Finds the event of a returned message, and says so in its name.
    fn charge(&mut self, returned: &BasicReturnMessage) {
        let sent = |at: &usize| {
            let envelope = self.work.envelope(*at);
            exchange(envelope) == returned.exchange.as_str()
                && routing_key(envelope) == returned.routing_key.as_str()
                && **envelope.event.body() == *returned.data
                && Message::of(envelope).has_headers_of(&returned.properties)
        };
        // Messages that are the same in all of this are one another's equals: any of them will do.
        let Some(at) = self.work.open().find(sent) else {
            self.strange = true;
            return;
        };
        let text = format!("no queue takes it ({} {})", returned.reply_code, returned.reply_text);
        self.work.refused(at, SinkError::new(ErrorKind::Unroutable, "publish", text));
    }

    /// Counts what is confirmed, now that everything that is ready was entered.
    fn count_acked(&mut self) {
        let acked = std::mem::take(&mut self.acked);
        if self.strange {
            self.held.extend(acked);
        } else {
            // One that was returned has its outcome already.
            acked.into_iter().for_each(|at| self.work.delivered(at));
        }
    }

    /// Counts the rest, now that everything is answered.
    fn finish(self) -> Result<(), lapin::Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        for at in self.held {
            if self.strange {
                let text = "the broker returned a message that was not sent";
                self.work.unknown(at, SinkError::new(ErrorKind::Unexpected, "publish", text));
            } else {
                self.work.delivered(at);
            }
        }
        Ok(())
    }
}
