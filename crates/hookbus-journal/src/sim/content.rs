//! The bytes of a file, and what they may be after a power cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::chance::Chance;

/// What reaches the disk as a whole or not at all.
pub(super) const SECTOR: usize = 512;

type Sector = Arc<[u8; SECTOR]>;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    length: Versions<u64>,
    /// Where there is none, there are zeros.
    sectors: BTreeMap<u64, Versions<Sector>>,
    /// Sectors written since the last sync.
    written: BTreeSet<u64>,
}

/// Something with the values it had since it was last certain.
#[derive(Clone, Debug, Default)]
struct Versions<T> {
    certain: T,
    later: Vec<T>,
    /// So many of the later ones were given up: no sync makes them certain, unless another value came after them.
    given_up: usize,
}

impl<T: Clone> Versions<T> {
    fn certain(certain: T) -> Self {
        Self { certain, later: Vec::new(), given_up: 0 }
    }

    fn now(&self) -> &T {
        self.later.last().unwrap_or(&self.certain)
    }

    fn put(&mut self, value: T) {
        self.later.push(value);
    }

    fn sync(&mut self) {
        if self.later.len() > self.given_up
            && let Some(last) = self.later.pop()
        {
            *self = Self::certain(last);
        }
    }

    fn give_up(&mut self) {
        self.given_up = self.later.len();
    }

    fn cut(&self, chance: &mut Chance) -> &T {
        match chance.how_many(self.later.len() as u64) {
            0 => &self.certain,
            happened => &self.later[happened as usize - 1],
        }
    }
}

/// The parts of `length` bytes at `offset`: the sector, where in it, and which of the bytes.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % SECTOR as u64) as usize;
        let some = (SECTOR - within).min(length - done);
        let part = (at / SECTOR as u64, within, done..done + some);
        done += some;
        (some > 0).then_some(part)
    })
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        *self.length.now()
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let length = self.len().saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (number, within, part) in parts(offset, length) {
            let into = &mut buffer[part];
            match self.sectors.get(&number) {
                Some(sector) => into.copy_from_slice(&sector.now()[within..within + into.len()]),
                None => into.fill(0),
            }
        }
        length
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for (number, within, part) in parts(offset, bytes.len()) {
            let zeros = || Versions::certain(Arc::new([0; SECTOR]));
            let sector = self.sectors.entry(number).or_insert_with(zeros);
            let mut changed = **sector.now();
            changed[within..within + part.len()].copy_from_slice(&bytes[part]);
            sector.put(Arc::new(changed));
            self.written.insert(number);
        }
        let end = offset + bytes.len() as u64;
        if !bytes.is_empty() && end > self.len() {
            self.length.put(end);
        }
    }

    pub(super) fn sync(&mut self) {
        self.settle(Versions::sync, Versions::sync);
    }

    /// A sync failed: what it should have made certain may never reach the disk.
    pub(super) fn give_up(&mut self) {
        self.settle(Versions::give_up, Versions::give_up);
    }

    fn settle(&mut self, length: fn(&mut Versions<u64>), sector: fn(&mut Versions<Sector>)) {
        length(&mut self.length);
        for number in std::mem::take(&mut self.written) {
            self.sectors.get_mut(&number).map(sector);
        }
    }

    pub(super) fn cut(&self, chance: &mut Chance) -> Self {
        // It may have grown by a part only, in whole sectors.
        let (least, most) = (self.length.certain, self.len());
        let grown = chance.how_many(most.div_ceil(SECTOR as u64) - least / SECTOR as u64);
        let length = match grown {
            0 => least,
            grown => ((least / SECTOR as u64 + grown) * SECTOR as u64).clamp(least, most),
        };
        let mut cut = Self { length: Versions::certain(length), ..Self::default() };
        for (number, sector) in &self.sectors {
            let start = number * SECTOR as u64;
            let mut kept = Arc::clone(sector.cut(chance));
            if start < length {
                let end = (length - start).min(SECTOR as u64) as usize;
                if kept[end..].iter().any(|byte| *byte != 0) {
                    Arc::make_mut(&mut kept)[end..].fill(0);
                }
                cut.sectors.insert(*number, Versions::certain(kept));
            }
        }
        cut
    }
}
