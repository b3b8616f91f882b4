//! `ack = "journal"`: an event is safe once the journal is fsynced, and its lanes deliver it from there.

use std::time::Duration;

use hookbus_core::{VerifiedEvent, route::Decision};
use hookbus_journal::Destination;
use tokio::time::{Instant, timeout_at};

use super::{Acceptor, Disposition, NotAccepted};

/// How long a sender should wait while the journal takes nothing.
const NO_ROOM: Duration = Duration::from_secs(30);

impl Acceptor {
    /// Takes an event over by the journal: on disk for all its destinations at once, by the deadline, or nowhere.
    ///
    /// After a refusal for its lateness alone it may be there all the same, as it may after a crash.
    pub(super) async fn by_journal(
        &self,
        event: &VerifiedEvent,
        decision: Decision,
        deadline: Instant,
    ) -> Result<Disposition, NotAccepted> {
        let refused = |retry_after, why: String| NotAccepted { retry_after, why };
        let Some(journal) = &self.journal else {
            return Err(refused(NO_ROOM, "there is no journal".to_owned()));
        };
        let Decision { destinations, unaddressable } = decision;
        let letters = unaddressable.into_iter().map(|lost| self.unaddressable(event, &lost)).collect();
        // First, because a second dead letter does less harm than a second event.
        self.keep(letters).await?;
        if destinations.is_empty() {
            return Ok(Disposition::Accepted);
        }
        let destinations: Vec<_> =
            destinations.into_iter().map(|to| Destination { sink: to.sink, address: to.address }).collect();
        let full = |error: hookbus_journal::JournalError| refused(NO_ROOM, error.to_string());
        let commit = journal.append(event, &destinations).map_err(full)?;
        match timeout_at(deadline, commit.durable()).await {
            Ok(safe) => safe.map(|()| Disposition::Accepted).map_err(full),
            Err(_) => {
                Err(refused(Duration::from_secs(1), "not in the journal within `ack-timeout`".to_owned()))
            }
        }
    }
}
