//! What is known of an event that was accepted before.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smallvec::SmallVec;

use super::DestinationHash;

/// An event that was accepted before, within the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it went, each time it was accepted.
    pub destinations: SmallVec<[DestinationHash; 4]>,
    /// When it was accepted last; in whole seconds.
    pub accepted: SystemTime,
    /// What was inserted with it, where that was since the last start: it may not be safe on disk yet. The highest, where
    /// there are several.
    pub sequence: Option<u64>,
}

impl Found {
    /// Adds another acceptance of the same event.
    pub(super) fn add(
        found: &mut Option<Self>,
        accepted: u32,
        sequence: Option<u64>,
        destinations: impl IntoIterator<Item = u32>,
    ) {
        let accepted = UNIX_EPOCH + Duration::from_secs(accepted.into());
        let found = found.get_or_insert(Self { destinations: SmallVec::new(), accepted, sequence });
        found.accepted = found.accepted.max(accepted);
        found.sequence = found.sequence.max(sequence);
        for destination in destinations.into_iter().filter_map(DestinationHash::new) {
            if !found.destinations.contains(&destination) {
                found.destinations.push(destination);
            }
        }
    }
}

/// Whole seconds since 1970; what is before or too late to be written down is the first or the last second.
pub(super) fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_secs().try_into().unwrap_or(u32::MAX)
}
