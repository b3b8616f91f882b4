//! Where events ended as dead letters: there a re-delivery is new.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, SystemTime},
};

use smallvec::SmallVec;

use crate::{
    cursor::seconds,
    dedup::{DestinationHash, Identity},
};

/// So many events at most, some megabytes: what is older is a duplicate again, and its dead letter can be redriven.
const MOST: usize = 1 << 16;

/// Events that ended as dead letters, and where. Within the window of what is known at all, and no more than [`MOST`].
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    by_identity: HashMap<Identity, Ended>,
    /// In the order in which they ended; one that is there again, or no more, is passed over.
    order: VecDeque<(Identity, u64)>,
}

#[derive(Debug, Default)]
struct Ended {
    /// When the last time, in seconds since 1970.
    at: u64,
    destinations: SmallVec<[DestinationHash; 1]>,
}

impl GivenUp {
    /// The event ended as a dead letter there.
    pub(crate) fn insert(
        &mut self,
        identity: Identity,
        to: DestinationHash,
        now: SystemTime,
        window: Duration,
    ) {
        let now = seconds(now);
        let ended = self.by_identity.entry(identity).or_default();
        ended.at = now;
        if !ended.destinations.contains(&to) {
            ended.destinations.push(to);
        }
        self.order.push_back((identity, now));
        self.trim(now.saturating_sub(window.as_secs()));
    }

    fn trim(&mut self, earliest: u64) {
        while let Some((identity, at)) = self.order.front().copied() {
            if at >= earliest && self.order.len() <= MOST {
                break;
            }
            self.order.pop_front();
            // The same second, ended twice: forgotten a little early.
            if self.by_identity.get(&identity).is_some_and(|ended| ended.at == at) {
                self.by_identity.remove(&identity);
            }
        }
    }

    /// Whether the event ended there.
    pub(crate) fn has(&self, identity: &Identity, to: &DestinationHash) -> bool {
        self.by_identity.get(identity).is_some_and(|ended| ended.destinations.contains(to))
    }

    /// The event is on its way there again.
    pub(crate) fn accepted(&mut self, identity: &Identity, to: &[DestinationHash]) {
        let Some(ended) = self.by_identity.get_mut(identity) else { return };
        ended.destinations.retain(|has| !to.contains(has));
        if ended.destinations.is_empty() {
            self.by_identity.remove(identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(number: u64) -> Identity {
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&number.to_le_bytes());
        Identity::from_bytes(bytes)
    }

    #[test]
    fn it_is_bounded_by_the_window_and_by_count() {
        let (mut given_up, to) = (GivenUp::default(), DestinationHash::MIN);
        let (start, window) =
            (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000), Duration::from_secs(60));
        for number in 0..100 {
            given_up.insert(identity(number), to, start + Duration::from_secs(number), window);
        }
        assert!(!given_up.has(&identity(38), &to) && given_up.has(&identity(39), &to), "within the window");
        let later = start + Duration::from_secs(100);
        for number in 1000..1000 + 3 * MOST as u64 {
            given_up.insert(identity(number), to, later, window);
        }
        assert!(given_up.by_identity.len() <= MOST && given_up.order.len() <= MOST);
        let last = identity(1000 + 3 * MOST as u64 - 1);
        assert!(given_up.has(&last, &to));
        given_up.accepted(&last, &[to]);
        assert!(!given_up.has(&last, &to));
        // The same one again and again takes no more room.
        (0..2 * MOST).for_each(|_| given_up.insert(last, to, later, window));
        assert!(given_up.order.len() <= MOST);
    }
}
