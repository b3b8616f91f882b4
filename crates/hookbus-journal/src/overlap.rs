//! How much of what sinks have to get is the same for several of them.
//!
//! Each sink is charged with all that it has to get, but a record is carried on once for all that need it. How much that
//! comes to is known of the segments that were looked at to be carried on; it is taken to be so of the others too, until
//! they are looked at in turn.

use std::collections::BTreeMap;

/// Segments that are remembered.
const MOST: usize = 64;

/// What was counted in segments: bytes of records that sinks need, and bytes the sinks were charged with for them.
#[derive(Debug, Default)]
pub(crate) struct Overlap {
    counted: BTreeMap<u64, (u64, u64)>,
}

impl Overlap {
    /// In this segment so many bytes are needed, for which sinks were charged with so many.
    pub(crate) fn put(&mut self, segment: u64, needed: u64, charged: u64) {
        self.counted.insert(segment, (needed, charged));
        while self.counted.len() > MOST {
            self.counted.pop_first();
        }
    }

    /// Whether this segment was looked at.
    pub(crate) fn knows(&self, segment: u64) -> bool {
        self.counted.contains_key(&segment)
    }

    /// About how many bytes records have for which sinks are charged with so many; as many, where nothing is known.
    pub(crate) fn needed_of(&self, charged: u64) -> u64 {
        let (needed, counted) = self
            .counted
            .values()
            .fold((0, 0), |sum, one| (sum.0 + u128::from(one.0), sum.1 + u128::from(one.1)));
        let needed = (u128::from(charged) * needed).checked_div(counted);
        needed.and_then(|needed| u64::try_from(needed).ok()).unwrap_or(charged).min(charged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_last_of_each_segment_is_taken_to_be_so_everywhere() {
        let mut overlap = Overlap::default();
        assert_eq!(overlap.needed_of(900), 900, "nothing is known");
        overlap.put(7, 0, 0);
        assert_eq!(overlap.needed_of(900), 900, "nothing is needed of the only one");
        overlap.put(7, 100, 300);
        assert!(overlap.knows(7) && !overlap.knows(8));
        assert_eq!(overlap.needed_of(900), 300);
        overlap.put(8, 300, 300);
        assert_eq!(overlap.needed_of(900), 600);
        // One sink has got all of it meanwhile.
        overlap.put(7, 100, 200);
        assert_eq!(overlap.needed_of(1000), 800);
        (9..200).for_each(|segment| overlap.put(segment, 10, 20));
        assert_eq!((overlap.needed_of(u64::MAX), overlap.knows(8)), (u64::MAX / 2, false));
    }
}
