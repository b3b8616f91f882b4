//! Dead letters on their way again, through the lanes.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use hookbus_core::{Redaction, VerifiedEvent};
use hookbus_journal::Letter;
use tokio::time::Instant;

use super::{
    Acceptor,
    acceptance::{Acceptance, Slot},
};
use crate::control::{NotRedriven, Redrive, destinations, shown};

/// How long sinks may take.
const DELIVERED: Duration = Duration::from_secs(30);

/// Redrives by the lanes of a bridge, as long as it runs.
#[derive(Debug)]
pub(crate) struct ByLanes(pub(crate) Weak<Acceptor>);

#[async_trait]
impl Redrive for ByLanes {
    fn shown(&self, letter: &Letter) -> VerifiedEvent {
        match self.0.upgrade() {
            Some(acceptor) => shown(letter, acceptor.router.redactions()),
            // The bridge is stopping, and nobody can say any more what may be seen.
            None => letter.event.masked(&Redaction::everything()),
        }
    }

    async fn redrive(&self, letter: &Letter, reroute: bool) -> Result<(), NotRedriven> {
        let acceptor = self.0.upgrade().ok_or(NotRedriven::Stopping)?;
        acceptor.redrive(letter, reroute).await
    }
}

impl Acceptor {
    /// Delivers a letter's event and waits until every sink has it.
    async fn redrive(&self, letter: &Letter, reroute: bool) -> Result<(), NotRedriven> {
        let sinks: Vec<_> = self.lanes.iter().map(|lane| Arc::clone(lane.name())).collect();
        let destinations = destinations(letter, reroute, &sinks, &self.router)?;
        let count = destinations.len();
        let acceptance = Arc::new(Acceptance::new(None, destinations, |_| false));
        let request = acceptance.request();
        for at in 0..count {
            self.submit(&letter.event, &acceptance, at);
        }
        acceptance.resolved(Instant::now() + DELIVERED).await;
        request.withdraw();
        for (to, slot) in acceptance.slots() {
            let error = match slot {
                Slot::Delivered => continue,
                Slot::Rejected { error, .. } | Slot::Missing { error, .. } => Some(error),
                Slot::Queued(error) | Slot::InFlight(error) => error,
            };
            let unanswered = || format!("sink `{}`: no confirmation within 30s", self.lanes[to.sink].name());
            return Err(NotRedriven::NotDelivered(error.map_or_else(unanswered, |error| error.to_string())));
        }
        Ok(())
    }
}
