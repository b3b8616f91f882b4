//! A folder whose power is cut at a chosen instant, and what must then be true of a journal in it.
#![allow(dead_code, reason = "each test uses its part of it")]

pub(crate) mod ledger;

use std::{
    io,
    sync::{Arc, Mutex},
};

use hookbus_journal::{File, Folder, sim::SimFolder};

/// SplitMix64: the same seed, the same run.
#[derive(Debug)]
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Of any order of magnitude up to `end`.
    pub(crate) fn magnitude(&mut self, end: usize) -> usize {
        let bits = self.below(end.ilog2() as usize + 1);
        self.below((1 << (bits + 1)).min(end))
    }
}

/// A simulated folder that looks, at a chosen change of the disk, what a power cut would leave, and what somebody knew
/// at that instant.
#[derive(Debug)]
pub(crate) struct CutFolder<T> {
    disk: SimFolder,
    cut: Arc<Cut<T>>,
}

#[derive(Debug)]
pub(crate) struct Cut<T> {
    known: Arc<Mutex<T>>,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    /// So many changes are left until the power goes.
    left: usize,
    /// It goes behind the change, not before it.
    behind: bool,
    seed: u64,
    /// Only the process dies, and what it wrote may still be lost later.
    only_process: bool,
    taken: Option<(SimFolder, T)>,
}

impl<T: Clone> Cut<T> {
    pub(crate) fn new(known: &Arc<Mutex<T>>, dice: &mut Dice, within: usize) -> Arc<Self> {
        let (left, behind, seed) = (dice.magnitude(within), dice.once_in(2), dice.next());
        let state = State { left, behind, seed, only_process: dice.once_in(4), taken: None };
        let state = Mutex::new(state);
        Arc::new(Self { known: Arc::clone(known), state })
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.state.lock().unwrap().taken.is_some()
    }

    /// What is left on the disk, and what was known then: now, where it has not happened yet.
    pub(crate) fn take(&self, disk: &SimFolder) -> (SimFolder, T) {
        let (taken, seed) = {
            let mut state = self.state.lock().unwrap();
            (state.taken.take(), (!state.only_process).then_some(state.seed))
        };
        taken.unwrap_or_else(|| self.now(disk, seed))
    }

    /// With a seed the power goes, without one the process dies.
    fn now(&self, disk: &SimFolder, seed: Option<u64>) -> (SimFolder, T) {
        // First what is known: whatever was safe by then is safe on the disk that is looked at later.
        let known = self.known.lock().unwrap().clone();
        (seed.map_or_else(|| disk.crash(), |seed| disk.power_cut(seed)), known)
    }

    fn around<R>(&self, disk: &SimFolder, change: impl FnOnce() -> R) -> R {
        let strikes = {
            let mut state = self.state.lock().unwrap();
            let strikes = state.left == 0 && state.taken.is_none();
            state.left = state.left.saturating_sub(1);
            strikes.then_some((state.behind, (!state.only_process).then_some(state.seed)))
        };
        if let Some((false, seed)) = strikes {
            self.put(self.now(disk, seed));
        }
        let changed = change();
        if let Some((true, seed)) = strikes {
            self.put(self.now(disk, seed));
        }
        changed
    }

    fn put(&self, taken: (SimFolder, T)) {
        self.state.lock().unwrap().taken.get_or_insert(taken);
    }
}

impl<T> CutFolder<T> {
    pub(crate) fn new(disk: &SimFolder, cut: &Arc<Cut<T>>) -> Arc<Self> {
        Arc::new(Self { disk: disk.clone(), cut: Arc::clone(cut) })
    }
}

/// A type that can be known.
pub(crate) trait Known: Clone + std::fmt::Debug + Send + Sync + 'static {}
impl<T: Clone + std::fmt::Debug + Send + Sync + 'static> Known for T {}

impl<T: Known> CutFolder<T> {
    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(CutFile { file, disk: self.disk.clone(), cut: Arc::clone(&self.cut) })
    }
}

impl<T: Known> Folder for CutFolder<T> {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.disk.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.cut.around(&self.disk, || self.disk.create(name))?))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.cut.around(&self.disk, || self.disk.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.cut.around(&self.disk, || self.disk.remove(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.cut.around(&self.disk, || self.disk.sync())
    }
}

#[derive(Debug)]
struct CutFile<T> {
    file: Arc<dyn File>,
    disk: SimFolder,
    cut: Arc<Cut<T>>,
}

impl<T: Known> File for CutFile<T> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.cut.around(&self.disk, || self.file.write_at(bytes, offset))
    }

    fn sync(&self) -> io::Result<()> {
        self.cut.around(&self.disk, || self.file.sync())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
