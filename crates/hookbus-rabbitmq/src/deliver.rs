//! A whole publish call: attempts, and who is to blame where a channel is closed.

use std::sync::Arc;

use hookbus_core::{ErrorKind, SinkError};
use lapin::{
    Channel, ExchangeKind,
    options::ExchangeDeclareOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use tracing::{Dispatch, instrument::WithSubscriber as _};

use crate::{
    attempt::{Limits, attempt},
    classify::{Place, classify},
    link::Link,
    message::exchange,
    work::Work,
};

/// How the next attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Everything at once.
    Together,
    /// The same, after all exchanges were asked for again.
    Rechecked,
    /// One event after the other.
    Alone,
}

/// Publishes everything open.
///
/// An error of a channel closes it, and all that is in flight there fails alike, although the broker has taken some of
/// it. So what can be known is asked before (exchanges) or checked (sizes). Where a channel is closed all the same,
/// what is unresolved is sent again: after *not found* without the exchanges that are found missing now, after
/// anything else one by one, so that only an event that closed a channel all by itself is blamed. Those before it may
/// arrive twice.
///
/// # Errors
/// Why the rest stays open.
pub(crate) async fn deliver(link: &Arc<Link>, work: &Work<'_>, max_body: usize) -> Result<(), SinkError> {
    let limits = Limits { body: max_body, frame: link.max_frame() };
    let mut pace = Pace::Together;
    loop {
        let mut events: Vec<_> = work.open().collect();
        if pace == Pace::Alone {
            events.truncate(1);
        }
        ask_for_exchanges(link, work, &events).await?;
        events.retain(|at| work.is_open(*at));
        if events.is_empty() {
            match work.open().next() {
                None => return Ok(()),
                Some(_) => continue,
            }
        }
        let lease = link.lease().await?;
        // Without the driver's log: at its lowest level it shows whole messages.
        let tried = attempt(lease.channel(), work, &events, limits).with_subscriber(Dispatch::none()).await;
        let Err(error) = tried else {
            lease.done();
            continue;
        };
        let soft = error.is_amqp_soft_error() && link.is_connected();
        if let ([alone], true) = (&events[..], soft) {
            // The channel was closed because of it, so it was not taken.
            work.not_sent(*alone);
        }
        work.in_doubt();
        if !soft {
            return Err(link.lost("publish", &error));
        }
        lease.closed();
        link.forget();
        pace = match (pace, &events[..]) {
            (_, [alone]) => {
                blame(work, *alone, &classify(Place::Channel, "publish", &error));
                pace
            }
            (Pace::Together, _) if is_not_found(&error) => Pace::Rechecked,
            _ => Pace::Alone,
        };
    }
}

/// Says of the one event that closed a channel what that means.
fn blame(work: &Work<'_>, at: usize, error: &SinkError) {
    match error.kind() {
        ErrorKind::TooLarge => work.rejected(at, error.clone()),
        ErrorKind::Unroutable => {
            // Whatever else goes there would close a channel each.
            let address = &work.envelope(at).address;
            let there = work.open().filter(|other| work.envelope(*other).address == *address);
            there.for_each(|other| work.refused(other, error.clone()));
        }
        _ => work.unknown(at, error.clone()),
    }
}

/// Refuses the events whose exchange is missing, and asks only for those that are not known to be there.
async fn ask_for_exchanges(link: &Link, work: &Work<'_>, events: &[usize]) -> Result<(), SinkError> {
    let mut open = None;
    for at in events {
        let name = exchange(work.envelope(*at));
        // The default exchange, which has no name, is always there.
        if name.is_empty() || !work.is_open(*at) || link.knows(name) {
            continue;
        }
        let channel: Channel = match open.take() {
            Some(channel) => channel,
            None => link.channel("publish").await?,
        };
        match find_exchange(&channel, name).await {
            Ok(()) => {
                link.remember(name);
                open = Some(channel);
            }
            Err(error) if error.is_amqp_soft_error() && link.is_connected() => {
                let error = classify(Place::Channel, "publish", &error);
                let there = work.open().filter(|other| exchange(work.envelope(*other)) == name);
                there.for_each(|other| work.refused(other, error.clone()));
            }
            Err(error) => return Err(link.lost("publish", &error)),
        }
    }
    Ok(())
}

/// Whether there is an exchange of this name. An error of AMQP closes the channel.
pub(crate) async fn find_exchange(channel: &Channel, name: &str) -> Result<(), lapin::Error> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    // The kind does not matter to a question.
    channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default()).await
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(reply)
        if *reply.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}
