//! What a test must know of a destination to prove a sink for it.

use std::{collections::HashMap, fmt, sync::Mutex, sync::PoisonError, time::Duration};

use async_trait::async_trait;
use hookbus_core::{Address, Envelope, Sink, SinkPlugin};

use crate::{FaultProxy, Observed, connect};

/// A destination under test, with all that a case may do to it.
///
/// Each case starts its own; several run at once and may share one server, so every name a fixture uses there must be
/// its own. What a destination cannot do is left at its default, and the cases that need it say so and are skipped.
#[async_trait]
pub trait Fixture: Sized + Send + Sync + 'static {
    /// The type of sink that is proved.
    type Plugin: SinkPlugin<Config: fmt::Debug>;

    /// Starts it, or finds a server and claims names there. What it starts must end with the value.
    ///
    /// # Errors
    /// Why this destination cannot be had here, such as a server that is not installed.
    async fn start() -> Result<Self, Skip>;

    /// The keys of a `[sinks.NAME]` table for this destination, beside `type`, as TOML. With [`proxy`](Self::proxy)
    /// it leads through the proxy. Files are named by absolute paths.
    fn config(&self) -> String;

    /// A new sink for this destination. Several may be made, one after the other.
    async fn sink(&self) -> Box<dyn Sink> {
        connect::<Self::Plugin>(&self.config()).await
    }

    /// The `n`th address that takes events, and holds none when the fixture has started. Made by
    /// [`address`](crate::address()). Asked again for the same `n`, it is the same one. Where a destination has one
    /// address only, it is that one for every `n`.
    async fn address(&self, n: usize) -> Address;

    /// Everything that has arrived at an address so far, in the order of the destination, duplicates included; read
    /// by other means than the sink, and not through the proxy. An event that was confirmed may take a moment to
    /// show: cases ask again. Where reading takes away, [`Harvest`] keeps what was read.
    async fn read(&self, address: &Address) -> Vec<Observed>;

    /// How long a sink may take to recover by itself, reconnecting included; cases that wait for something give up
    /// after it. Generous, because machines are busy: it costs no time where all is well. Default: 60 seconds.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Why this destination's nature makes a case of this name meaningless, for the few that no other offer decides.
    /// The case is skipped with this reason.
    fn exempt(case: &str) -> Option<&'static str> {
        let _ = case;
        None
    }

    /// The proxy between the sinks and the destination.
    ///
    /// # Errors
    /// Where there is none.
    fn proxy(&self) -> Result<&FaultProxy, Skip> {
        Err(Skip::not_offered("a fault proxy"))
    }

    /// An address that the destination will refuse until it is mended, a new one each time: a topic that does not
    /// exist, a stream's key that holds something else.
    ///
    /// # Errors
    /// Where every address takes events.
    async fn missing(&self) -> Result<Address, Skip> {
        Err(Skip::not_offered("an address that is missing"))
    }

    /// Makes an address that [`missing`](Self::missing) returned take events.
    ///
    /// # Errors
    /// Where that cannot be done.
    async fn mend(&self, address: &Address) -> Result<(), Skip> {
        let _ = address;
        Err(Skip::not_offered("mending an address"))
    }

    /// The length of the largest body that is taken, of events whose attributes and address are as long as those of
    /// `like`; their bodies are JSON on one line.
    ///
    /// # Errors
    /// Where there is no limit worth testing.
    fn largest_body(&self, like: &Envelope) -> Result<usize, Skip> {
        let _ = like;
        Err(Skip::not_offered("a limit of size"))
    }

    /// The credentials that the sink uses here; none of them may be shown.
    ///
    /// # Errors
    /// Where it uses none.
    fn secrets(&self) -> Result<Vec<String>, Skip> {
        Err(Skip::not_offered("a credential"))
    }

    /// Makes the destination itself go away, as when its machine stops, once this returns.
    ///
    /// # Errors
    /// Where it cannot be stopped.
    async fn gone(&self) -> Result<(), Skip> {
        Err(Skip::not_offered("stopping the destination"))
    }

    /// Brings the destination back, with all it had taken responsibility for.
    async fn back(&self) {}
}

/// Why something is not tested. Shown, so that nobody takes silence for a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip(String);

impl Skip {
    /// A reason, as one line without a final period.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    fn not_offered(what: &str) -> Self {
        Self(format!("the fixture does not offer {what}"))
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a fixture has read so far, for destinations where reading takes away, such as a queue.
#[derive(Debug, Default)]
pub struct Harvest(Mutex<HashMap<Address, Vec<Observed>>>);

impl Harvest {
    /// Adds what was just read at an address, and returns all that ever was.
    pub fn add(&self, address: &Address, fresh: impl IntoIterator<Item = Observed>) -> Vec<Observed> {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.entry(address.clone()).or_default();
        read.extend(fresh);
        read.clone()
    }
}
