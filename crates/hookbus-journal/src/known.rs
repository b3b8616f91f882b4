//! Which events were accepted before, and where each of them still has to go.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use hookbus_core::VerifiedEvent;
use smallvec::SmallVec;

use crate::{
    dedup::{Acceptance, Dedup, DestinationHash, Files, Found, Identities, Identity, Sealing, Search},
    engine::Engine,
    given_up::GivenUp,
    journal::Destination,
    recover::{Held, acceptances, held},
};

/// What is known of accepted events. Guarded by the lock of what is appended to.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) dedup: Dedup,
    /// Where events ended as dead letters: there they are not known.
    pub(crate) given_up: GivenUp,
    /// Tables of segments that have ended, to be written.
    pub(crate) sealings: Vec<Sealing>,
}

/// What can be found out of an event before the lock is taken.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) identity: Identity,
    /// Of each destination.
    pub(crate) hashes: SmallVec<[DestinationHash; 4]>,
    files: Files,
    /// What the files know.
    pub(crate) found: Option<Found>,
}

/// The files there are, for whoever does not hold the lock.
#[derive(Debug)]
pub(crate) struct KnownFiles {
    pub(crate) identities: Identities,
    files: Mutex<Files>,
}

impl KnownFiles {
    pub(crate) fn new(identities: Identities, files: Files) -> Self {
        Self { identities, files: Mutex::new(files) }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    pub(crate) fn new(dedup: Dedup, sealings: Vec<Sealing>) -> Self {
        Self { dedup, given_up: GivenUp::default(), sealings }
    }

    /// Where the event is new, by the places of its destinations, and the record it was accepted with last, where that
    /// may not be safe yet. Nothing where the files are others by now: then it has to be asked again.
    pub(crate) fn fresh(
        &self,
        asked: &Asked,
        now: SystemTime,
    ) -> Option<(SmallVec<[usize; 4]>, Option<u64>)> {
        if !self.dedup.files().are(&asked.files) {
            return None;
        }
        let in_memory = self.dedup.find_in_memory(&asked.identity, now);
        let sequence = in_memory.as_ref().and_then(|found| found.sequence);
        let has = |hash: &DestinationHash| {
            let found = [&in_memory, &asked.found].into_iter().flatten();
            let has = found.flat_map(|found| &found.destinations).any(|has| has == hash);
            has && !self.given_up.has(&asked.identity, hash)
        };
        let fresh = asked.hashes.iter().enumerate().filter(|(_, hash)| !has(hash)).map(|(at, _)| at);
        Some((fresh.collect(), sequence))
    }

    /// Of a segment's events only these are left.
    pub(crate) fn correct(&mut self, segment: u64, held: &[Held], newest: SystemTime) -> io::Result<()> {
        let corrected = self.dedup.correct(segment, acceptances(held), newest)?;
        if let Some(sealing) = corrected {
            self.sealings.retain(|sealing| sealing.segment() != segment);
            self.sealings.push(sealing);
        }
        Ok(())
    }

    /// Whether the table of a segment was made again, and is still to be written.
    pub(crate) fn is_made_again(&self, segment: u64) -> bool {
        self.sealings.iter().any(|sealing| sealing.segment() == segment)
    }

    /// The event is accepted with this record for these destinations.
    pub(crate) fn accept(
        &mut self,
        identity: Identity,
        hashes: &[DestinationHash],
        sequence: u64,
        now: SystemTime,
    ) {
        self.dedup.insert(&Acceptance { identity, destinations: hashes, accepted: now, sequence });
        self.given_up.accepted(&identity, hashes);
    }
}

impl Engine {
    /// What the event is known by, with the search for it where a file may know it; nothing where nobody could tell.
    pub(crate) fn ask(
        &self,
        event: &VerifiedEvent,
        destinations: &[Destination],
        now: SystemTime,
    ) -> Option<(Asked, Option<Search>)> {
        let identity = self.known_files.identities.event(event)?;
        let feeds = self.feeds();
        let hash =
            |to: &Destination| self.known_files.identities.destination(&feeds[to.sink].name, &to.address);
        let files = self.known_files.files().clone();
        let search = files.search(&identity, now);
        let hashes = destinations.iter().map(hash).collect();
        Some((Asked { identity, hashes, files, found: None }, search))
    }

    /// The event ended as a dead letter there: when it comes again, it goes there again.
    pub(crate) fn give_up(&self, event: &VerifiedEvent, sink: &str, address: &hookbus_core::Address) {
        let Some(identity) = self.known_files.identities.event(event) else { return };
        let hash = self.known_files.identities.destination(sink, address);
        let mut open = self.open();
        open.known.given_up.insert(identity, hash, SystemTime::now(), self.settings.dedup.window);
    }

    /// Corrects the tables of segments of which events were found lost: those are new when they come again.
    pub(crate) fn correct_tables(&self) {
        for number in self.store.take_spoilt() {
            let segment = self.store.segment(number);
            // Its table is in memory, and grows.
            if self.open().segment.number == number {
                self.store.spoil(number);
                continue;
            }
            let there = segment.as_ref().map(|segment| held(&self.store, segment)).transpose();
            let newest = SystemTime::now();
            let mut open = self.open();
            let corrected =
                there.and_then(|held| open.known.correct(number, &held.unwrap_or_default(), newest));
            *self.known_files.files() = open.known.dedup.files().clone();
            drop(open);
            if let Err(error) = corrected {
                tracing::warn!(segment = number, %error, "cannot correct the table of a segment with lost events");
                self.store.spoil(number);
            }
        }
    }

    /// Writes the tables of segments that have ended and are safe.
    pub(crate) fn write_tables(&self) {
        loop {
            let sealing = {
                let mut open = self.open();
                let safe = |sealing: &Sealing| {
                    let segment = self.store.segment(sealing.segment());
                    let last =
                        segment.and_then(|segment| segment.footer.get().map(|footer| footer.last_sequence));
                    last.is_none_or(|last| last < open.durable)
                };
                let Some(at) = open.known.sealings.iter().position(safe) else { return };
                open.known.sealings.swap_remove(at)
            };
            let now = SystemTime::now();
            let written = sealing.write();
            let mut open = self.open();
            let adopted = written.and_then(|file| open.known.dedup.adopt(file, now));
            *self.known_files.files() = open.known.dedup.files().clone();
            if let Err(error) = adopted {
                // It stays in memory until it can be written; without a file a restart reads the segment instead.
                tracing::warn!(segment = sealing.segment(), %error, "cannot write the table of a segment");
                open.known.sealings.push(sealing);
                return;
            }
        }
    }
}
