//! What a power cut decides by: the same seed, the same decisions.

#[derive(Debug)]
pub(super) struct Chance {
    state: u64,
    mood: Mood,
}

/// A cut where everything is decided evenly hardly ever loses all or nothing; those find other mistakes.
#[derive(Debug)]
enum Mood {
    Nothing,
    Little,
    Even,
    Most,
    Everything,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Self { state: seed, mood: Mood::Even };
        chance.mood = match chance.below(10) {
            0 => Mood::Nothing,
            1 | 2 => Mood::Little,
            3..7 => Mood::Even,
            7 | 8 => Mood::Most,
            _ => Mood::Everything,
        };
        chance
    }

    /// How many of the things that were to happen one after the other did.
    pub(super) fn how_many(&mut self, of: u64) -> u64 {
        let rarely = self.below(8) == 0;
        match self.mood {
            Mood::Nothing => 0,
            Mood::Everything => of,
            Mood::Little if !rarely => 0,
            Mood::Most if !rarely => of,
            _ => self.below(of + 1),
        }
    }

    /// SplitMix64.
    fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
