//! The power goes at any instant, also while a journal is opened again, and whatever was accepted is still there.
//!
//! `HOOKBUS_POWER_CUTS` says how many cuts; `HOOKBUS_POWER_CUT_SEED` runs the one case that a failure names.

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
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use cut::{
    Cut, CutFolder, Dice,
    ledger::{Delivery, Fate, InOrder, Ledger},
};
use hookbus_journal::{
    Appended, Backlog, Entry, EntryId, Folder, JournalError, Room, Settings, SinkSettings, sim::SimFolder,
};
use rig::{MIB, Rig};

const SINKS: [&str; 3] = ["one", "two", "three"];

#[test]
fn whenever_the_power_goes_nothing_accepted_is_lost_and_nothing_resolved_comes_again() {
    if let Some(seed) = number("HOOKBUS_POWER_CUT_SEED") {
        run(seed);
        return;
    }
    let wanted = number("HOOKBUS_POWER_CUTS").unwrap_or(400);
    let (mut cuts, mut seed) = (0, 0);
    while cuts < wanted {
        cuts += std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|panic| {
            eprintln!("HOOKBUS_POWER_CUT_SEED={seed} fails again in this way, or almost: threads differ");
            std::panic::resume_unwind(panic)
        });
        seed += 1;
    }
    println!("{cuts} power cuts in {seed} journals");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// One journal, from its beginning to its end. How often its power was cut.
fn run(seed: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Case::new(seed).run())
}

/// A journal that is used and cut off, again and again.
struct Case {
    dice: Dice,
    settings: Settings,
    disk: SimFolder,
    ledger: Arc<Mutex<Ledger>>,
    cuts: u64,
}

/// What a lane has in its hands.
struct Lane {
    backlog: Backlog,
    held: BTreeMap<EntryId, Delivery>,
    seen: BTreeSet<Delivery>,
    order: InOrder,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let segment_size = [64, 96, 256][dice.below(3)] << 10;
        let max_size = segment_size * [8, 10, 14, 64][dice.below(4)];
        let retention = Duration::from_secs([0, 3600][dice.below(2)]);
        let settings = Settings { segment_size, max_size, retention, ..rig::settings() };
        Self { dice, settings, disk: SimFolder::new(), ledger: Arc::default(), cuts: 0 }
    }

    async fn run(mut self) -> u64 {
        for _ in 0..=self.dice.below(5) {
            self.generation().await;
        }
        let rig = self.open(Arc::new(self.disk.clone()));
        self.all_is_there(&rig).await;
        rig.close().await;
        let rig = self.open(Arc::new(self.disk.clone()));
        for (sink, lane) in lanes(&rig).iter_mut().enumerate() {
            assert!(rig::drain(&mut lane.backlog).await.is_empty(), "all of it was resolved");
            let pending = &rig.journal.pending()[sink];
            assert_eq!((pending.events, pending.bytes), (0, 0));
        }
        rig.close().await;
        self.cuts
    }

    fn open(&self, folder: Arc<dyn Folder>) -> Rig {
        let rig = Rig::open_with(folder, self.settings.clone(), &sinks()).unwrap();
        assert_eq!(rig.journal.damaged(), 0, "what a power cut takes was not accepted");
        rig
    }

    /// Opens the journal and uses it until the power goes, which may be before it is open, or closes it in order.
    async fn generation(&mut self) {
        let within = [30, 400][self.dice.below(2)];
        let cut = Cut::new(&self.ledger, &mut self.dice, within);
        let rig = self.open(CutFolder::new(&self.disk, &cut));
        let mut lanes = lanes(&rig);
        let steps = self.dice.magnitude(256);
        for _ in 0..steps {
            if cut.is_taken() {
                break;
            }
            self.step(&rig, &mut lanes).await;
        }
        assert_eq!(rig.journal.damaged(), 0, "nothing is damaged");
        if !cut.is_taken() && self.dice.once_in(4) {
            rig.close().await;
            self.ledger().closed();
            return;
        }
        let (disk, mut known) = cut.take(&self.disk);
        known.cut();
        rig.close().await;
        (self.disk, *self.ledger()) = (disk, known);
        self.cuts += 1;
    }

    async fn step(&mut self, rig: &Rig, lanes: &mut [Lane]) {
        match self.dice.below(26) {
            0 => {
                // Everybody has everything, so that all segments may go.
                for (sink, lane) in lanes.iter_mut().enumerate() {
                    let entries = rig::drain(&mut lane.backlog).await;
                    self.look_at(sink, lane, entries);
                    for delivery in lane.held.values() {
                        self.ledger().resolve(*delivery);
                    }
                    lane.backlog.resolve_all(std::mem::take(&mut lane.held).into_keys());
                }
            }
            1..10 => self.accept(rig).await,
            10..18 => {
                let sink = self.dice.below(SINKS.len());
                let room = Room { events: 1 + self.dice.magnitude(64), bytes: 1 << self.dice.below(20) };
                let entries = lanes[sink].backlog.take(room).await.unwrap();
                self.look_at(sink, &mut lanes[sink], entries);
            }
            _ => {
                let lane = &mut lanes[self.dice.below(SINKS.len())];
                let (least, some) = (self.dice.below(4), self.dice.magnitude(64));
                let done: Vec<_> =
                    lane.held.iter().filter(|_| self.dice.below(4) >= least).take(some).collect();
                for (_, delivery) in &done {
                    self.ledger().resolve(**delivery);
                }
                let done: Vec<_> = done.into_iter().map(|(id, _)| *id).collect();
                lane.backlog.resolve_all(done.iter().copied());
                lane.held.retain(|id, _| !done.contains(id));
            }
        }
    }

    /// Sends some events at once, and does not always wait for what becomes of them.
    async fn accept(&mut self, rig: &Rig) {
        let mut commits = Vec::new();
        for _ in 0..=self.dice.magnitude(16) {
            let largest = [900, 20_000][self.dice.below(2)];
            let (number, to) = self.ledger.lock().unwrap().send(&mut self.dice, SINKS.len(), largest);
            let event = self.ledger().event(number);
            match rig.journal.append(&event, &to).await {
                Ok(Appended::New(commit)) => commits.push((number, commit)),
                Ok(Appended::Duplicate(_)) => panic!("every event is new"),
                Err(JournalError::Full | JournalError::SinkFull { .. }) => {
                    self.ledger().is(number, Fate::Refused);
                }
                // In the smallest journal a segment takes little more than this.
                Err(JournalError::TooLarge) if event.size() as u64 > self.settings.max_size / 16 => {
                    self.ledger().is(number, Fate::Refused);
                }
                Err(error) => panic!("{error}"),
            }
        }
        if self.dice.once_in(3) {
            return;
        }
        for (number, commit) in commits {
            commit.durable().await.unwrap();
            self.ledger().is(number, Fate::Accepted);
        }
        self.ledger().settle();
        // The first may end a segment, and what is noted stands in the next one then.
        for _ in 0..2 {
            let (number, to) = self.ledger.lock().unwrap().send(&mut self.dice, SINKS.len(), 10);
            let event = self.ledger().event(number);
            let Ok(Appended::New(commit)) = rig.journal.append(&event, &to).await else {
                self.ledger().is(number, Fate::Refused);
                return;
            };
            commit.durable().await.unwrap();
            self.ledger().is(number, Fate::Accepted);
        }
        self.ledger().settled();
    }

    fn look_at(&self, sink: usize, lane: &mut Lane, entries: Vec<Entry>) {
        for entry in entries {
            let delivery = self.ledger().recognise(sink, &entry);
            lane.order.check(&entry, delivery);
            assert!(lane.seen.insert(delivery), "{delivery:?} came twice");
            lane.held.insert(entry.id, delivery);
        }
    }

    /// Whatever was accepted and not resolved comes out, and then nothing is left.
    async fn all_is_there(&self, rig: &Rig) {
        for (sink, lane) in lanes(rig).iter_mut().enumerate() {
            let pending = rig.journal.pending()[sink].events;
            // What is being copied on is there a moment later.
            let mut entries = rig::take(&mut lane.backlog, pending as usize).await;
            entries.extend(rig::drain(&mut lane.backlog).await);
            assert_eq!(pending, entries.len() as u64, "it knows how much there is");
            self.look_at(sink, lane, entries);
            assert_eq!(self.ledger().missing(sink, &lane.seen), [], "missing for sink {sink}");
            for delivery in &lane.seen {
                self.ledger().resolve(*delivery);
            }
            lane.backlog.resolve_all(lane.held.keys().copied());
        }
        assert_eq!(rig.journal.damaged(), 0, "nothing is damaged");
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }
}

fn sinks() -> Vec<SinkSettings> {
    SINKS.iter().map(|name| SinkSettings { name: (*name).into(), max_pending: MIB }).collect()
}

fn lanes(rig: &Rig) -> Vec<Lane> {
    let lane = |sink| Lane {
        backlog: rig.journal.backlog(sink),
        held: BTreeMap::new(),
        seen: BTreeSet::new(),
        order: InOrder::default(),
    };
    (0..SINKS.len()).map(lane).collect()
}
