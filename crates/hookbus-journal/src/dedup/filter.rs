//! Which identities a file does not have, from memory.
//!
//! A Bloom filter in blocks of one cache line: all bits of an identity are in one block, so that an answer costs one
//! access to memory. The bits are the same for every filter; only the block differs.

use super::Identity;

/// Bits per identity: about one in two hundred that is not there looks as if it were.
const BITS: usize = 12;
/// Bits set for one identity.
const PROBES: u32 = 7;
const WORDS: usize = 8;
/// Bytes of a block.
pub(super) const BLOCK: usize = WORDS * 8;

#[derive(Debug, Default)]
pub(super) struct Filter {
    blocks: Vec<Block>,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Block([u64; WORDS]);

/// The bits of an identity in its block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    leading: u32,
    bits: Block,
}

impl Probe {
    pub(super) fn new(identity: &Identity) -> Self {
        let mut bits = Block::default();
        for probe in 0..PROBES {
            let bit = identity.rest() >> (probe * 9);
            bits.0[(bit >> 6) as usize % WORDS] |= 1 << (bit % 64);
        }
        Self { leading: identity.leading(), bits }
    }

    fn block(&self, of: usize) -> usize {
        ((u64::from(self.leading) * of as u64) >> 32) as usize
    }
}

impl Filter {
    /// How many blocks there are for so many identities.
    pub(super) fn blocks(count: usize) -> usize {
        (count * BITS).div_ceil(BLOCK * 8)
    }

    pub(super) fn for_count(count: usize) -> Self {
        Self { blocks: vec![Block::default(); Self::blocks(count)] }
    }

    pub(super) fn insert(&mut self, identity: &Identity) {
        let probe = Probe::new(identity);
        let block = probe.block(self.blocks.len());
        if let Some(block) = self.blocks.get_mut(block) {
            block.0.iter_mut().zip(probe.bits.0).for_each(|(word, bits)| *word |= bits);
        }
    }

    /// Whether it may be there; where not, it is not.
    pub(super) fn may_have(&self, probe: &Probe) -> bool {
        let Some(block) = self.blocks.get(probe.block(self.blocks.len())) else { return false };
        // Without a branch for each word: which one is missing cannot be foreseen.
        block.0.iter().zip(probe.bits.0).fold(0, |missing, (word, bits)| missing | (bits & !word)) == 0
    }

    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        self.blocks.iter().flat_map(|block| block.0).flat_map(u64::to_le_bytes)
    }

    /// The filter of these bytes, a whole number of blocks.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>();
        Self { blocks: words.as_chunks().0.iter().map(|words| Block(*words)).collect() }
    }

    pub(super) fn memory(&self) -> u64 {
        (self.blocks.len() * BLOCK) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::tests::identity;

    #[test]
    fn has_what_was_inserted_and_little_else() {
        let mut filter = Filter::for_count(10_000);
        (0..10_000).for_each(|number| filter.insert(&identity(number)));
        let filter = Filter::read(&filter.bytes().collect::<Vec<_>>());
        assert_eq!(filter.memory(), 15_040);
        assert!((0..10_000).all(|number| filter.may_have(&Probe::new(&identity(number)))));
        let wrong =
            (10_000..110_000).filter(|number| filter.may_have(&Probe::new(&identity(*number)))).count();
        assert!((100..700).contains(&wrong), "{wrong} of 100,000");
    }

    #[test]
    fn an_empty_one_has_nothing() {
        assert!(!Filter::for_count(0).may_have(&Probe::new(&identity(1))));
    }
}
