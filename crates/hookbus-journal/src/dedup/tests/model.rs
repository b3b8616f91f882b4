//! Against a model: whatever happens in whatever order, the answers are those of plain maps with times.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Insert {
        number: u32,
        destinations: Vec<u32>,
    },
    Clock(i32),
    Seal,
    /// The oldest file that is being written is there.
    Adopt,
    /// The process dies: what is not in a file is gone, as far as this part is concerned.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let insert = || {
        (0u32..12, prop::collection::vec(1u32..9, 0..7))
            .prop_map(|(number, destinations)| Step::Insert { number, destinations })
    };
    prop_oneof![
        8 => insert(),
        2 => (-1_500..2_500).prop_map(Step::Clock),
        2 => Just(Step::Seal),
        2 => Just(Step::Adopt),
        1 => Just(Step::Restart),
    ]
}

/// When it was accepted last, with which highest sequence, and for which destinations.
type Map = BTreeMap<u32, (u32, u64, BTreeSet<u32>)>;

#[derive(Default)]
struct Model {
    open: Map,
    /// With the time at which they were sealed.
    sealing: Vec<(Map, u32)>,
    files: Vec<(Map, u32)>,
}

impl Model {
    fn trim(&mut self, now: u32) {
        let newest = |map: &Map| map.values().map(|(accepted, ..)| *accepted).max();
        self.files.retain(|(map, sealed)| newest(map).unwrap_or(*sealed) >= now - WINDOW);
    }

    fn find(&self, number: u32, now: u32) -> Option<(u32, Option<u64>, BTreeSet<u32>)> {
        let memory = self.sealing.iter().map(|(map, _)| map).chain([&self.open]).map(|map| (map, true));
        let all = self.files.iter().map(|(map, _)| (map, false)).chain(memory);
        let live = all.filter_map(|(map, memory)| {
            map.get(&number).filter(|(accepted, ..)| *accepted >= now - WINDOW).map(|entry| (entry, memory))
        });
        let mut found: Option<(u32, Option<u64>, BTreeSet<u32>)> = None;
        for ((accepted, sequence, destinations), memory) in live {
            let found = found.get_or_insert_default();
            found.0 = found.0.max(*accepted);
            found.1 = found.1.max(memory.then_some(*sequence));
            found.2.extend(destinations);
        }
        found
    }
}

proptest! {
    #[test]
    fn answers_are_those_of_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let folder = SimFolder::new();
        let (mut dedup, _) = open(&folder, ROOMY, START);
        let (mut model, mut sealings, mut now) = (Model::default(), Vec::new(), START);
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert { number, destinations: numbers } => {
                    let sequence = count as u64;
                    let destinations = destinations(numbers.iter().copied());
                    let acceptance = Acceptance { identity: identity(number), destinations: &destinations, accepted: at(now), sequence };
                    dedup.insert(&acceptance);
                    let entry = model.open.entry(number).or_default();
                    *entry = (entry.0.max(now), sequence, numbers.into_iter().chain(entry.2.clone()).collect());
                }
                Step::Clock(by) => now = now.saturating_add_signed(by),
                Step::Seal => {
                    sealings.push(dedup.seal(count as u64, at(now)));
                    model.sealing.push((std::mem::take(&mut model.open), now));
                }
                Step::Adopt if !sealings.is_empty() => {
                    dedup.adopt(sealings.remove(0).write().unwrap(), at(now)).unwrap();
                    model.files.push(model.sealing.remove(0));
                    model.trim(now);
                }
                Step::Adopt => {}
                Step::Restart => {
                    let (again, damaged) = open(&folder.crash(), ROOMY, now);
                    prop_assert!(damaged.is_empty());
                    // The folder that the other one used stays as it is.
                    drop(again);
                    let (again, _) = open(&folder, ROOMY, now);
                    dedup = again;
                    sealings.clear();
                    (model.open, model.sealing) = Default::default();
                    model.trim(now);
                }
            }
            for number in 0..12 {
                let found = dedup.find(&identity(number), at(now)).unwrap();
                let found = found.map(|found| {
                    let destinations = found.destinations.iter().map(|hash| hash.get()).collect();
                    (seconds(found.accepted), found.sequence, destinations)
                });
                prop_assert_eq!(found, model.find(number, now), "{} at {}", number, now);
            }
        }
    }
}
