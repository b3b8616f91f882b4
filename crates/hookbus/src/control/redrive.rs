//! Sending a dead letter on its way again.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use hookbus_core::{
    Router, VerifiedEvent,
    form::Redactions,
    route::{Decision, Destination, Unaddressable},
};
use hookbus_journal::{JournalError, Letter};
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

/// Why a dead letter stays where it is.
#[derive(Debug, Error)]
pub(crate) enum NotRedriven {
    #[error("no bridge runs with this configuration: start `hookbus serve`, it delivers what is redriven")]
    NoBridge,
    #[error("there is no sink `{0}` any more: `--reroute` applies today's routes")]
    NoSink(Arc<str>),
    #[error("it has no valid address: `--reroute` applies today's routes")]
    NoAddress,
    #[error("no route takes the event today")]
    NoRoute,
    #[error(transparent)]
    Unaddressable(#[from] Unaddressable),
    #[error("{0}")]
    NotDelivered(String),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the bridge is stopping")]
    Stopping,
}

/// Takes dead letters over. When it says yes, the event is as safe as if it had just been accepted.
#[async_trait]
pub(crate) trait Redrive: fmt::Debug + Send + Sync + 'static {
    /// Whether it can be asked at all.
    fn ready(&self) -> Result<(), NotRedriven> {
        Ok(())
    }

    /// The letter's event as people may see it.
    fn shown(&self, letter: &Letter) -> VerifiedEvent;

    /// Sends the event where it should have gone, or where today's routes send it.
    async fn redrive(&self, letter: &Letter, reroute: bool) -> Result<(), NotRedriven>;
}

/// What of a letter's event people may see: neither what its source says they must not, nor what its destination masks.
pub(crate) fn shown(letter: &Letter, redactions: &Redactions) -> VerifiedEvent {
    let masked = letter.address.as_ref().and_then(|address| address.form()?.redaction());
    let event = masked.map_or_else(|| letter.event.clone(), |redaction| letter.event.masked(redaction));
    redactions.shown(&event)
}

/// Where no bridge runs.
#[derive(Debug)]
pub(crate) struct NoBridge(pub(crate) Redactions);

#[async_trait]
impl Redrive for NoBridge {
    fn ready(&self) -> Result<(), NotRedriven> {
        Err(NotRedriven::NoBridge)
    }

    fn shown(&self, letter: &Letter) -> VerifiedEvent {
        shown(letter, &self.0)
    }

    async fn redrive(&self, _: &Letter, _: bool) -> Result<(), NotRedriven> {
        Err(NotRedriven::NoBridge)
    }
}

/// Where a letter goes: where it should have gone, or where these routes send it.
pub(crate) fn destinations(
    letter: &Letter,
    reroute: bool,
    sinks: &[Arc<str>],
    router: &Router,
) -> Result<SmallVec<[Destination; 2]>, NotRedriven> {
    if reroute {
        let Decision { destinations, unaddressable } = router.route(&letter.event);
        return match unaddressable.into_iter().next() {
            Some(unaddressable) => Err(unaddressable.into()),
            None if destinations.is_empty() => Err(NotRedriven::NoRoute),
            None => Ok(destinations),
        };
    }
    let sink = sinks.iter().position(|sink| *sink == letter.sink);
    let sink = sink.ok_or_else(|| NotRedriven::NoSink(Arc::clone(&letter.sink)))?;
    let address = letter.address.clone().ok_or(NotRedriven::NoAddress)?;
    Ok(smallvec![Destination { sink, address }])
}
