//! Random work, with restarts and power cuts, compared with what was promised.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Keep(u64),
    KeepMany(Vec<u64>),
    /// Removes those at these places of what there is.
    Remove(Vec<usize>),
    Reopen,
    DiskFull,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..400_u64).prop_map(Step::Keep),
        2 => vec(0..400_u64, 1..6).prop_map(Step::KeepMany),
        4 => vec(0..200_usize, 1..12).prop_map(Step::Remove),
        1 => Just(Step::Reopen),
        1 => Just(Step::DiskFull),
    ]
}

/// What is there by id, and what may be there: asked for, and answered with an error.
#[derive(Default)]
struct Model {
    sure: BTreeMap<u64, u64>,
    /// Numbers of letters that were not kept, as far as anybody was told.
    maybe_kept: BTreeSet<u64>,
    /// Ids whose removal was refused.
    maybe_removed: BTreeSet<u64>,
}

impl Model {
    /// Does what is asked until the disk fails for good; then everything that was asked and refused is open.
    async fn step(&mut self, letters: &DeadLetters, step: &Step) {
        let keep = |number| {
            let letters = letters.clone();
            async move { (number, letters.keep(letter(number)).await) }
        };
        let mut kept = Vec::new();
        match step {
            Step::Keep(number) => kept.push(keep(*number).await),
            Step::KeepMany(numbers) => {
                let waiting: Vec<_> = numbers.iter().map(|number| tokio::spawn(keep(*number))).collect();
                for one in waiting {
                    kept.push(one.await.unwrap());
                }
            }
            Step::Remove(places) => {
                let there: Vec<u64> = self.sure.keys().copied().collect();
                if there.is_empty() {
                    return;
                }
                let ids: BTreeSet<u64> = places.iter().map(|place| there[place % there.len()]).collect();
                let ids: Vec<u64> = ids.into_iter().collect();
                match letters.remove(&ids).await {
                    Ok(count) => {
                        assert_eq!(count, ids.len());
                        self.sure.retain(|id, _| !ids.contains(id));
                    }
                    Err(_) => self.maybe_removed.extend(ids),
                }
            }
            Step::Reopen | Step::DiskFull => {}
        }
        for (number, result) in kept {
            match result {
                Ok(id) => {
                    let before = self.sure.insert(id, number);
                    assert!(before.is_none_or(|before| before == number && number.is_multiple_of(2)));
                }
                Err(NotKept::Full(_)) => {}
                Err(_) => drop(self.maybe_kept.insert(number)),
            }
        }
    }

    fn check(&self, found: &[(u64, u64)]) {
        let found: BTreeMap<u64, u64> = found.iter().copied().collect();
        for (id, number) in &self.sure {
            let there = found.get(id);
            assert!(there == Some(number) || self.maybe_removed.contains(id), "letter {id} is {there:?}");
        }
        for (id, number) in &found {
            let known = self.sure.get(id) == Some(number) || self.maybe_kept.contains(number);
            assert!(known, "letter {id} should not be there");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Little room, so that files are begun, moved together and removed all the time.
const TIGHT: LetterSettings = LetterSettings { max_size: 40_000, segment_size: 6 << 10 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_map_would(steps in vec(step(), 1..80)) {
        runtime().block_on(async {
            let folder = MemoryFolder::default();
            let (mut letters, mut model) = (open(&folder, TIGHT).0, Model::default());
            for step in &steps {
                match step {
                    Step::Reopen => {
                        let (again, found) = open(&folder, TIGHT);
                        assert_eq!((found.damaged, found.count), (0, again.len()));
                        letters = again;
                        // Of a group that failed half way whole records may be there: refused, yet not lost.
                        let there = contents(&letters).await;
                        model.sure.extend(there.into_iter().filter(|(_, number)| *number > 1000));
                    }
                    Step::DiskFull => {
                        folder.fail(Some(Failure::Write));
                        // Together: what is written of them before it fails has whole records.
                        let keep = |number| {
                            let letters = letters.clone();
                            tokio::spawn(async move { letters.keep(letter(number)).await })
                        };
                        for waiting in [1001, 1003, 1005, 1007, 1009].map(keep) {
                            assert!(waiting.await.unwrap().is_err());
                        }
                        folder.fail(None);
                    }
                    other => model.step(&letters, other).await,
                }
                assert_eq!(contents(&letters).await, model.sure.iter().map(|(id, n)| (*id, *n)).collect::<Vec<_>>());
            }
            let size: usize = folder.files().values().map(Vec::len).sum();
            assert!(size as u64 <= TIGHT.max_size + TIGHT.segment_size + 8192, "{size} bytes");
        });
    }

    #[test]
    fn a_power_cut_takes_nothing_that_was_answered(
        steps in vec(step(), 1..60),
        cut in 1..160_usize,
        choices in vec(any::<usize>(), 64),
    ) {
        runtime().block_on(async {
            let folder = MemoryFolder::default();
            let (letters, mut model) = (open(&folder, TIGHT).0, Model::default());
            folder.cut_after(cut);
            for step in &steps {
                model.step(&letters, step).await;
            }
            let mut choices = choices.iter().cycle();
            let files = folder.after_the_cut(|of| choices.next().unwrap() % of);
            let folder = MemoryFolder::with(&files);
            let (letters, found) = open(&folder, TIGHT);
            let there = contents(&letters).await;
            model.check(&there);
            assert_eq!(found.count, there.len());
            // And it goes on as if nothing had been.
            let mut model = Model { sure: there.into_iter().collect(), ..Model::default() };
            for step in &steps {
                model.step(&letters, step).await;
            }
            let expected: Vec<_> = model.sure.into_iter().collect();
            assert_eq!(contents(&letters).await, expected);
            assert_eq!(contents(&open(&folder, TIGHT).0).await, expected);
        });
    }
}
