//! Redriving by the journal: the lanes deliver it as they do with every event.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use hookbus_core::{VerifiedEvent, route};
use hookbus_journal::{Appended, Destination, Journal, Letter};

use super::redrive::{NotRedriven, Redrive, Today, destinations, shown};

/// How long the journal may take.
const DURABLE: Duration = Duration::from_secs(30);

/// Appends letters to the journal and waits until they are safe there.
#[derive(Debug)]
pub(crate) struct ByJournal {
    pub(crate) journal: Journal,
    /// The sinks as the journal knows them, and the routes.
    pub(crate) today: Arc<ArcSwap<Today>>,
}

#[async_trait]
impl Redrive for ByJournal {
    fn shown(&self, letter: &Letter) -> VerifiedEvent {
        shown(letter, self.today.load().router.redactions())
    }

    async fn redrive(&self, letter: &Letter, reroute: bool) -> Result<(), NotRedriven> {
        let destinations = destinations(letter, reroute, &self.today.load_full())?;
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
