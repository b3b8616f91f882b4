//! `ack = "journal"`: an event is safe once the journal is fsynced, and its lanes deliver it from there.

use std::time::Duration;

use hookbus_core::{VerifiedEvent, route::Decision};
use hookbus_journal::{Appended, Destination, Journal, JournalError, Letter};
use tokio::time::{Instant, timeout_at};

use super::{Acceptor, Disposition, NotAccepted};
use crate::config::WhenFull;

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
        let refused = |retry_after, why: String| NotAccepted::Now { retry_after, why };
        let Some(journal) = &self.journal else {
            return Err(refused(NO_ROOM, "there is no journal".to_owned()));
        };
        let Decision { destinations, unaddressable } = decision;
        let mut letters: Vec<_> =
            unaddressable.into_iter().map(|lost| self.unaddressable(event, &lost)).collect();
        let destinations: Vec<_> =
            destinations.into_iter().map(|to| Destination { sink: to.sink, address: to.address }).collect();
        let late = || refused(Duration::from_secs(1), "not in the journal within `ack-timeout`".to_owned());
        let safe = async {
            let appended = self.append(journal, event, destinations, &mut letters).await?;
            let (commit, disposition) = match appended {
                None => return Ok(Disposition::Accepted),
                Some(Appended::New(commit)) => (commit, Disposition::Accepted),
                Some(Appended::Duplicate(commit)) => (commit, Disposition::Duplicate),
            };
            match commit.durable().await {
                Ok(()) => Ok(disposition),
                Err(error) => Err(refused(NO_ROOM, error.to_string())),
            }
        };
        let disposition = timeout_at(deadline, safe).await.unwrap_or_else(|_| Err(late()))?;
        // Last, so that nothing of an event that is refused is left: with every try of its sender there would be a letter
        // more. Where they cannot be kept, the next try finds the rest in the journal.
        self.keep(letters).await?;
        Ok(disposition)
    }

    /// Appends the event for all destinations but those that are full and whose events then become dead letters, which
    /// are put to the others. Nothing where no other destination is left.
    async fn append(
        &self,
        journal: &Journal,
        event: &VerifiedEvent,
        mut destinations: Vec<Destination>,
        letters: &mut Vec<Letter>,
    ) -> Result<Option<Appended>, NotAccepted> {
        while !destinations.is_empty() {
            let full = match journal.append(event, &destinations).await {
                Ok(appended) => return Ok(Some(appended)),
                Err(error @ JournalError::SinkFull { .. }) => error,
                Err(JournalError::TooLarge) => return Err(NotAccepted::TooLarge),
                Err(error) => return Err(NotAccepted::Now { retry_after: NO_ROOM, why: error.to_string() }),
            };
            let JournalError::SinkFull { sink: name } = &full else { continue };
            // Each round takes one sink out of the list.
            let sink = self.lanes.iter().position(|lane| lane.name() == name);
            let Some(sink) = sink.filter(|sink| self.when_full[*sink] == WhenFull::DeadLetter) else {
                return Err(NotAccepted::Now { retry_after: NO_ROOM, why: full.to_string() });
            };
            let (give_up, rest): (Vec<_>, _) = destinations.into_iter().partition(|to| to.sink == sink);
            let letter = |to: Destination| {
                self.letter(event, sink, Some(to.address), "max-pending", &full.to_string(), 0)
            };
            letters.extend(give_up.into_iter().map(letter));
            destinations = rest;
        }
        Ok(None)
    }
}
