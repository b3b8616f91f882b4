//! What the tables promise together.

mod damage;
mod identities;
mod life;
mod model;

use std::time::UNIX_EPOCH;

use super::*;
use crate::sim::SimFolder;

/// A second of 2026.
pub(super) const START: u32 = 1_780_000_000;
pub(super) const WINDOW: u32 = 3_600;
const ROOMY: u64 = 1 << 30;

pub(super) fn identity(number: u32) -> Identity {
    let hash = blake3::hash(&number.to_le_bytes());
    Identity(std::array::from_fn(|at| hash.as_bytes()[at]))
}

pub(super) fn at(seconds: u32) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.into())
}

pub(super) fn destinations(numbers: impl IntoIterator<Item = u32>) -> Vec<DestinationHash> {
    numbers.into_iter().filter_map(DestinationHash::new).collect()
}

pub(super) fn key() -> RecordKey {
    RecordKey::new(&[3; 32]).unwrap()
}

pub(super) fn open(folder: &SimFolder, max_size: u64, now: u32) -> (Dedup, Vec<u64>) {
    let settings = Settings { window: Duration::from_secs(WINDOW.into()), max_size };
    Dedup::open(Arc::new(folder.clone()), &key(), settings, at(now)).unwrap()
}

/// Notes the events of these numbers, each with its number plus one as destination and as sequence.
pub(super) fn note(dedup: &mut Dedup, numbers: impl IntoIterator<Item = u32>, now: u32) {
    for number in numbers {
        let destinations = destinations([number + 1]);
        let (identity, accepted) = (identity(number), at(now));
        dedup.insert(&Acceptance {
            identity,
            destinations: &destinations,
            accepted,
            sequence: number.into(),
        });
    }
}

pub(super) fn finish(dedup: &mut Dedup, segment: u64, now: u32) {
    let file = dedup.seal(segment, at(now)).write().unwrap();
    dedup.adopt(file, at(now)).unwrap();
}

pub(super) fn knows(dedup: &Dedup, number: u32, now: u32) -> bool {
    let found = dedup.find(&identity(number), at(now)).unwrap();
    let expected = destinations([number + 1]);
    assert!(found.as_ref().is_none_or(|found| found.destinations[..] == expected[..]), "{number}: {found:?}");
    found.is_some()
}
