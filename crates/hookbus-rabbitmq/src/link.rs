//! A connection: its channels, its alarms, and the exchanges known to be there.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use hookbus_core::{ErrorKind, SinkError};
use lapin::{Channel, Connection, Event, options::ConfirmSelectOptions};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    classify::{Place, classify},
    wire::Wire,
};

/// How long an alarm may last before calls end: what the broker had read by then it still confirms.
const GRACE: Duration = Duration::from_millis(500);
/// Names of exchanges remembered; with more, all are asked for anew.
const MAX_KNOWN: usize = 1024;

/// A connection that is or was open.
///
/// It is never repaired: after any doubt about it, it is *spoiled*, which means that calls under way go on with it and
/// new ones make another. When the last of them is over it is cut.
pub(crate) struct Link {
    connection: Connection,
    alarm: watch::Receiver<Option<Arc<str>>>,
    alarms: JoinHandle<()>,
    shared: Mutex<Shared>,
    _wire: Wire,
}

#[derive(Default)]
struct Shared {
    /// Channels nobody uses, on which everything was answered.
    idle: Vec<Channel>,
    /// Exchanges that were there when asked for.
    known: HashSet<Box<str>>,
    spoiled: bool,
    /// Channels that were given up. To close one while messages of it wait to be written would close the connection,
    /// because the driver sends its methods first, and then those messages on a channel that is closed.
    given_up: Vec<Channel>,
}

impl Link {
    pub(crate) fn new(connection: Connection, wire: Wire) -> Self {
        let mut events = connection.events_listener();
        let (tell, alarm) = watch::channel(None);
        // A task, because the driver's events go to one listener only, and any number of calls want to know.
        let alarms = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => drop(tell.send_replace(Some(reason.into()))),
                    Event::ConnectionUnblocked => drop(tell.send_replace(None)),
                    _ => {}
                }
            }
        });
        Self { connection, alarm, alarms, shared: Mutex::default(), _wire: wire }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    pub(crate) fn is_spoiled(&self) -> bool {
        self.shared().spoiled
    }

    /// Leaves it to the calls that use it already.
    pub(crate) fn spoil(&self) {
        self.shared().spoiled = true;
    }

    /// The alarm that keeps the broker from taking anything, if there is one. It tells those who have published.
    pub(crate) fn alarm(&self) -> Option<SinkError> {
        let reason = self.alarm.borrow();
        reason.as_ref().map(|reason| {
            let text = format!("the broker takes no messages until its alarm is over: {reason}");
            SinkError::new(ErrorKind::Overloaded, "publish", text)
        })
    }

    /// Waits for an alarm that lasts; for ever, where there is none.
    pub(crate) async fn alarmed(&self) -> SinkError {
        let mut alarm = self.alarm.clone();
        loop {
            if alarm.wait_for(Option::is_some).await.is_err() {
                // The connection is gone: whoever uses it hears that.
                std::future::pending::<()>().await;
            }
            sleep(GRACE).await;
            if let Some(error) = self.alarm() {
                return error;
            }
        }
    }

    /// The longest frame that was agreed upon.
    pub(crate) fn max_frame(&self) -> usize {
        usize::try_from(self.connection.configuration().frame_max()).unwrap_or(usize::MAX)
    }

    /// A new channel without confirmations, for questions.
    pub(crate) async fn channel(&self, operation: &'static str) -> Result<Channel, SinkError> {
        self.connection.create_channel().await.map_err(|error| self.lost(operation, &error))
    }

    /// A channel of one's own that confirms what is published.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, SinkError> {
        let idle = self.shared().idle.pop().filter(|channel| channel.status().connected());
        let channel = match idle {
            Some(channel) => channel,
            None => {
                let channel = self.channel("publish").await?;
                let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
                confirms.map_err(|error| self.lost("publish", &error))?;
                channel
            }
        };
        Ok(Lease { link: Arc::clone(self), channel: Some(channel) })
    }

    /// What an error means that is nobody's fault but the connection's.
    pub(crate) fn lost(&self, operation: &'static str, error: &lapin::Error) -> SinkError {
        classify(Place::Connection, operation, error)
    }

    pub(crate) fn knows(&self, exchange: &str) -> bool {
        self.shared().known.contains(exchange)
    }

    pub(crate) fn remember(&self, exchange: &str) {
        let known = &mut self.shared().known;
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(exchange.into());
    }

    /// Asks for every exchange anew.
    pub(crate) fn forget(&self) {
        self.shared().known.clear();
    }

    /// Says goodbye, where the broker listens.
    pub(crate) async fn close(&self) -> Result<(), SinkError> {
        if !self.is_connected() || self.alarm().is_some() {
            return Ok(());
        }
        let closed = self.connection.close(200, "OK".into()).await;
        closed.map_err(|error| self.lost("close", &error))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.alarms.abort();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connected, spoiled) = (self.is_connected(), self.is_spoiled());
        write!(f, "Link(connected: {connected}, spoiled: {spoiled})")
    }
}

/// A channel of one publish call. Dropped in the middle of its work, it spoils its connection: what is on its way
/// there can no longer be told from what another call sends.
pub(crate) struct Lease {
    link: Arc<Link>,
    channel: Option<Channel>,
}

impl Lease {
    pub(crate) fn channel(&self) -> &Channel {
        self.channel.as_ref().expect("only what ends a lease takes its channel")
    }

    /// Everything was answered: others may use the channel.
    pub(crate) fn done(mut self) {
        self.link.shared().idle.extend(self.channel.take());
    }

    /// The broker has closed the channel, and the connection is well.
    pub(crate) fn closed(mut self) {
        drop(self.channel.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            let mut shared = self.link.shared();
            shared.spoiled = true;
            shared.given_up.push(channel);
        }
    }
}
