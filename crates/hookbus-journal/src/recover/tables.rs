//! The tables of identities, made again from segments.

use std::{
    io,
    ops::ControlFlow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hookbus_core::{VerifiedEvent, record::Record};

use crate::{
    dedup::{Acceptance, DestinationHash, Identities, Identity},
    format::{self, Accepted, EVENT, To},
    known::Known,
    segment::{START, Segment},
    store::Store,
};

/// An event that a segment holds: what it is known by, where it went, when, and its number.
pub(crate) type Held = (Identity, Vec<DestinationHash>, SystemTime, u64);

/// Makes the tables of segments that have none, or a damaged one.
pub(crate) fn read_tables(store: &Store, known: &mut Known, now: SystemTime) -> io::Result<()> {
    let segments: Vec<_> = store.segments().values().cloned().collect();
    for segment in segments {
        let Some(footer) = segment.footer.get() else { continue };
        let newest = UNIX_EPOCH + Duration::from_secs(footer.sealed);
        if footer.events == 0 || !known.dedup.lacks(segment.number, newest, now) {
            continue;
        }
        let held = held(store, &segment)?;
        let sealing = known.dedup.rebuild(segment.number, acceptances(&held), newest);
        known.sealings.push(sealing);
    }
    Ok(())
}

/// Events of a segment are lost: its table knows no more than what is left from now on, so that they are new when they come
/// again.
pub(crate) fn correct_table(
    store: &Store,
    known: &mut Known,
    segment: u64,
    now: SystemTime,
) -> io::Result<()> {
    let there = store.segment(segment);
    let held = there.as_ref().map(|there| held(store, there)).transpose()?.unwrap_or_default();
    let sealed = there.and_then(|there| there.footer.get().map(|footer| footer.sealed));
    let newest = sealed.map_or(now, |sealed| UNIX_EPOCH + Duration::from_secs(sealed));
    known.correct(segment, &held, newest)
}

/// The events that a segment holds.
pub(crate) fn held(store: &Store, segment: &Segment) -> io::Result<Vec<Held>> {
    let identities = Identities::new(&store.key);
    let mut held = Vec::new();
    let end = segment.end().unwrap_or(segment.header.capacity);
    segment.scan(&store.key, START, end, |_, record| {
        held.extend(acceptance(&identities, record));
        ControlFlow::Continue(())
    })?;
    Ok(held)
}

pub(crate) fn acceptances(held: &[Held]) -> impl Iterator<Item = Acceptance<'_>> {
    held.iter().map(|(identity, destinations, accepted, sequence)| Acceptance {
        identity: *identity,
        destinations,
        accepted: *accepted,
        sequence: *sequence,
    })
}

/// What the record of an event says of where it was accepted for, and when.
fn acceptance(
    identities: &Identities,
    record: &Record<'_>,
) -> Option<(Identity, Vec<DestinationHash>, SystemTime, u64)> {
    let about = format::read::<Accepted<'_>>(record.about()).filter(|_| record.head().kind == EVENT)?;
    let event = VerifiedEvent::restore(record).ok()?;
    let hash = |to: &To<'_>| identities.destination(to.sink, &to.address());
    let destinations = about.destinations.iter().map(hash).collect();
    Some((identities.event(&event)?, destinations, event.received(), record.head().place.sequence))
}
