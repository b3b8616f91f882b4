//! Random numbers that come again with the same seed, so that a bad run can be repeated.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// SplitMix64 from a seed.
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// Those of this seed; of one that nobody knows where there is none.
    pub fn new(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(()));
        Self { seed, state: seed }
    }

    /// The seed, to be printed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// A time below this one, which is at least a microsecond.
    pub fn instant_within(&mut self, time: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let throw = |mut dice: Dice| (0..100).map(|_| dice.below(6)).collect::<Vec<_>>();
        let dice = Dice::new(None);
        assert_eq!(throw(dice.clone()), throw(Dice::new(Some(dice.seed()))));
        assert_ne!(throw(Dice::new(Some(1))), throw(Dice::new(Some(2))));
        assert!((0..6).all(|side| throw(Dice::new(Some(3))).contains(&side)));
    }
}
