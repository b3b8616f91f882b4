//! Whatever is damaged on the disk, everything else comes out unchanged, and what is lost is told.
//!
//! Each changed byte and each length of a file is a journal of its own. By default that is a sample: the first bytes of each
//! file, and every 23rd. `HOOKBUS_DAMAGE=all` tries every byte that is written, and every length up to there; of long runs
//! of zeros both try a few.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that fails says so"
)]

mod cut;
mod rig;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cut::{
    Dice,
    ledger::{Delivery, Fate, InOrder, Ledger},
};
use hookbus_journal::{Appended, Settings, SinkSettings, sim::SimFolder};
use rig::{MIB, Rig, drain, take};

/// A journal on a disk, and what must come out of it.
struct Kept {
    disk: SimFolder,
    ledger: Ledger,
    /// Where the body of each event begins: the file, and the offset in it.
    places: BTreeMap<usize, (String, usize)>,
    /// The events of the last group: where they are gone, nothing tells them from ones that were never safe.
    last: usize,
    closed: bool,
}

/// What came of opening it.
struct Found {
    /// Events that did not come to all their sinks.
    missing: BTreeSet<usize>,
    damaged: u64,
}

fn settings() -> Settings {
    Settings { segment_size: 12 << 10, max_size: MIB, ..rig::settings() }
}

fn sinks() -> Vec<SinkSettings> {
    rig::sinks(&["one", "two", "three"])
}

impl Kept {
    /// A journal of several segments. One sink has not begun, one is somewhere in it, one has nearly all.
    async fn new(closed: bool) -> Self {
        let disk = SimFolder::new();
        let mut ledger = Ledger::default();
        let rig = Rig::open_with(Arc::new(disk.clone()), settings(), &sinks()).unwrap();
        let mut last = 0;
        let mut lanes: Vec<_> = (0..3).map(|sink| rig.journal.backlog(sink)).collect();
        for round in 0..8 {
            for _ in 0..5 {
                let (number, to) =
                    ledger.send_to([vec![0, 1, 2], vec![2, 0, 2]][last % 2].clone(), 150 + last);
                let event = ledger.event(number);
                match rig.journal.append(&event, &to).await.unwrap() {
                    Appended::New(commit) | Appended::Duplicate(commit) => commit.durable().await.unwrap(),
                }
                ledger.is(number, Fate::Accepted);
                last = number;
            }
            for (sink, wanted) in [(1, [2, 0, 4, 0, 2, 0, 0, 2][round]), (2, [6, 6, 6, 6, 6, 3, 6, 6][round])]
            {
                for (at, entry) in take(&mut lanes[sink], wanted).await.into_iter().enumerate() {
                    let delivery = ledger.recognise(sink, &entry);
                    if sink == 2 || at % 2 == 1 {
                        ledger.resolve(delivery);
                        lanes[sink].resolve(entry.id);
                    }
                }
            }
        }
        let disk = if closed {
            rig.close().await;
            disk
        } else {
            let crashed = disk.crash();
            rig.close().await;
            crashed
        };
        let mut places = BTreeMap::new();
        for name in files(&disk) {
            let bytes = disk.bytes(&name).unwrap();
            for number in 0..=last {
                let text = format!("\"id\":\"e{number}\",");
                let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
                places.extend(at.map(|at| (number, (name.clone(), at))));
            }
        }
        assert_eq!(places.len(), last + 1, "every event is somewhere");
        let segments: BTreeSet<_> = places.values().map(|(name, _)| name).collect();
        assert!(segments.len() > 2, "in several segments");
        Self { disk, ledger, places, last, closed }
    }

    /// Opens the journal with another content of one file, and takes everything.
    async fn with(&self, name: &str, bytes: &[u8]) -> Found {
        let disk = self.disk.crash();
        disk.put(name, bytes);
        self.open(disk).await
    }

    async fn open(&self, disk: SimFolder) -> Found {
        let rig = Rig::open_with(Arc::new(disk), settings(), &sinks()).expect("it opens");
        let mut missing = BTreeSet::new();
        for sink in 0..3 {
            let (mut ledger, mut order, mut seen) =
                (self.ledger.clone(), InOrder::default(), BTreeSet::new());
            for entry in drain(&mut rig.journal.backlog(sink)).await {
                let delivery: Delivery = ledger.recognise(sink, &entry);
                order.check(&entry, delivery);
                seen.insert(delivery);
            }
            missing.extend(self.ledger.missing(sink, &seen).into_iter().map(|(number, _)| number));
        }
        let damaged = rig.journal.damaged();
        rig.close().await;
        Found { missing, damaged }
    }

    /// The event whose record holds a byte, or the one behind it, where that is in the same file.
    fn around(&self, name: &str, at: usize) -> BTreeSet<usize> {
        let here = self.places.iter().filter(|(_, (file, _))| file == name);
        let before = here.clone().rfind(|(_, (_, place))| *place <= at);
        let behind = here.clone().find(|(_, (_, place))| *place > at);
        before.into_iter().chain(behind).map(|(number, _)| *number).collect()
    }

    fn tolerates(&self, found: &Found, what: &str) {
        let unknowable = !self.closed && found.missing.iter().all(|number| *number == self.last);
        assert!(
            found.missing.is_empty() || found.damaged > 0 || unknowable,
            "{what}: {:?} lost silently",
            found.missing
        );
    }
}

fn files(disk: &SimFolder) -> Vec<String> {
    let mut names = hookbus_journal::Folder::names(disk).unwrap();
    names.sort();
    names
}

/// Where something is written: parts of the file, in steps.
fn written(bytes: &[u8]) -> Vec<usize> {
    let step = if std::env::var_os("HOOKBUS_DAMAGE").is_some() { 1 } else { 23 };
    let zeros =
        |at: usize| bytes[at.saturating_sub(16)..(at + 16).min(bytes.len())].iter().all(|byte| *byte == 0);
    let far =
        |at: &usize| if zeros(*at) { at.is_multiple_of(509) } else { at.is_multiple_of(step) || *at < 256 };
    (0..bytes.len()).filter(far).collect()
}

async fn every_byte(closed: bool) {
    let kept = Kept::new(closed).await;
    let whole = kept.open(kept.disk.crash()).await;
    assert_eq!((whole.missing.len(), whole.damaged), (0, 0), "nothing is wrong with it");
    let mut dice = Dice(2);
    let (mut tried, mut alarms) = (0, 0);
    for name in files(&kept.disk) {
        let bytes = kept.disk.bytes(&name).unwrap();
        for at in written(&bytes) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << dice.below(8);
            let what = format!("byte {at} of {name}");
            let found = kept.with(&name, &changed).await;
            tried += 1;
            kept.tolerates(&found, &what);
            let around = kept.around(&name, at);
            assert!(found.missing.len() <= 1, "{what}: {:?} lost", found.missing);
            assert!(found.missing.is_subset(&around), "{what}: {:?} lost", found.missing);
            let in_records = at >= 4096;
            assert!(in_records || found.damaged == 0, "{what}: no record is there");
            alarms += usize::from(found.missing.is_empty() && found.damaged > 0);
        }
    }
    println!("{tried} bytes changed; {alarms} times something was reported that nobody had to get");
}

async fn every_length(closed: bool) {
    let kept = Kept::new(closed).await;
    for name in files(&kept.disk) {
        let bytes = kept.disk.bytes(&name).unwrap();
        let mut lengths = written(&bytes);
        let all = std::env::var_os("HOOKBUS_DAMAGE").is_some();
        lengths.retain(|at| all || (at % 8 < 2 && (*at < 16 || *at > 2000)));
        for length in lengths {
            let what = format!("{name} cut off at {length}");
            let found = kept.with(&name, &bytes[..length]).await;
            let gone = |number: &usize| {
                kept.places[number].0 == name && kept.places[number].1 + 190 + number > length
            };
            assert!(found.missing.iter().all(gone), "{what}: {:?} lost", found.missing);
            // Of what was cut off at the very end of a journal nothing tells that it was there.
            let last =
                files(&kept.disk).into_iter().rfind(|file| kept.places.values().any(|(at, _)| at == file));
            let footer = kept.closed && length >= 4096;
            if footer || last.as_ref() != Some(&name) {
                kept.tolerates(&found, &what);
            }
        }
    }
}

#[tokio::test]
async fn a_changed_byte_costs_one_event_at_most_and_is_told() {
    every_byte(true).await;
}

#[tokio::test]
async fn a_changed_byte_after_a_crash_costs_one_event_at_most_and_is_told() {
    every_byte(false).await;
}

#[tokio::test]
async fn a_file_that_was_cut_off_costs_what_was_cut_off_and_is_told() {
    every_length(true).await;
}

#[tokio::test]
async fn a_file_that_was_cut_off_after_a_crash_costs_what_was_cut_off_and_is_told() {
    every_length(false).await;
}
