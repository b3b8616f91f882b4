//! Redriving by the journal: the lanes deliver it as they do with every event.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use hookbus_core::{Router, VerifiedEvent, route};
use hookbus_journal::{Appended, Destination, Journal, Letter};

use super::redrive::{NotRedriven, Redrive, destinations, shown};

/// How long the journal may take.
const DURABLE: Duration = Duration::from_secs(30);

/// Appends letters to the journal and waits until they are safe there.
#[derive(Debug)]
pub(crate) struct ByJournal {
    pub(crate) journal: Journal,
    /// The sinks as the journal knows them.
    pub(crate) sinks: Vec<Arc<str>>,
    pub(crate) router: Arc<Router>,
}

#[async_trait]
impl Redrive for ByJournal {
    fn shown(&self, letter: &Letter) -> VerifiedEvent {
        shown(letter, self.router.redactions())
    }

    async fn redrive(&self, letter: &Letter, reroute: bool) -> Result<(), NotRedriven> {
        let destinations = destinations(letter, reroute, &self.sinks, &self.router)?;
        let journal = |to: route::Destination| Destination { sink: to.sink, address: to.address };
        let destinations: Vec<_> = destinations.into_iter().map(journal).collect();
        let late = || NotRedriven::NotDelivered("the journal was not on disk in time".into());
        // The letter itself says so, whatever the journal was told by now.
        if let Some(address) = &letter.address {
            self.journal.give_up(&letter.event, &letter.sink, address);
        }
        let appended = self.journal.append(&letter.event, &destinations).await?;
        let (Appended::New(commit) | Appended::Duplicate(commit)) = appended;
        tokio::time::timeout(DURABLE, commit.durable()).await.map_err(|_| late())??;
        Ok(())
    }
}
