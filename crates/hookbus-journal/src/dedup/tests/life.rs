//! From memory to disk, and what has to go.

use std::io::ErrorKind;

use super::*;
use crate::sim::{Failure, Operation};

#[test]
fn an_event_is_known_in_memory_while_sealed_and_on_disk() {
    let folder = SimFolder::new();
    let (mut dedup, damaged) = open(&folder, ROOMY, START);
    assert!(damaged.is_empty() && dedup.is_empty());
    note(&mut dedup, 0..300, START);
    let sequence = |dedup: &Dedup| dedup.find(&identity(7), at(START)).unwrap().unwrap().sequence;
    assert_eq!(sequence(&dedup), Some(7));
    let sealing = dedup.seal(4, at(START));
    assert_eq!(sequence(&dedup), Some(7));
    let file = std::thread::spawn(move || sealing.write().unwrap()).join().unwrap();
    dedup.adopt(file, at(START)).unwrap();
    assert_eq!((sequence(&dedup), dedup.len()), (None, 300));
    assert!((0..300).all(|number| knows(&dedup, number, START)));
    assert!((300..900).all(|number| !knows(&dedup, number, START)));
    // As after a power cut: the file was made safe.
    let (dedup, damaged) = open(&folder.power_cut(0), ROOMY, START);
    assert!(damaged.is_empty());
    assert!((0..300).all(|number| knows(&dedup, number, START)));
    assert_eq!(
        (dedup.segments().collect::<Vec<_>>(), dedup.bytes()),
        (vec![4], folder.bytes("0000000004.ids").unwrap().len() as u64)
    );
}

#[test]
fn many_destinations_are_all_remembered() {
    let (mut dedup, _) = open(&SimFolder::new(), ROOMY, START);
    let many = destinations(1..=600);
    // Enough beside it that it does not begin a page.
    note(&mut dedup, 1..300, START);
    for some in many.chunks(100) {
        dedup.insert(&Acceptance {
            identity: identity(0),
            destinations: some,
            accepted: at(START),
            sequence: 0,
        });
        dedup.insert(&Acceptance {
            identity: identity(0),
            destinations: &some[..3],
            accepted: at(START),
            sequence: 0,
        });
    }
    for sealed in [false, true] {
        let mut found = dedup.find(&identity(0), at(START)).unwrap().unwrap().destinations;
        found.sort_unstable();
        assert_eq!(found[..], many[..], "sealed: {sealed}");
        assert!((1..300).all(|number| knows(&dedup, number, START)));
        finish(&mut dedup, 1, START);
    }
}

#[test]
fn the_window_ends_and_a_clock_that_goes_back_changes_nothing() {
    let (mut dedup, _) = open(&SimFolder::new(), ROOMY, START);
    note(&mut dedup, [0], START);
    note(&mut dedup, [1], START + 10);
    for _ in 0..2 {
        assert!(knows(&dedup, 0, START + WINDOW));
        assert!(!knows(&dedup, 0, START + WINDOW + 1));
        assert!(knows(&dedup, 1, START + WINDOW + 1));
        assert!(knows(&dedup, 1, START - 100_000));
        assert!(knows(&dedup, 1, 0));
        finish(&mut dedup, 1, START);
    }
}

#[test]
fn a_file_goes_when_its_newest_event_is_past_the_window() {
    let folder = SimFolder::new();
    let (mut dedup, _) = open(&folder, ROOMY, START);
    note(&mut dedup, [0], START);
    finish(&mut dedup, 1, START);
    note(&mut dedup, [1], START + 10);
    finish(&mut dedup, 2, START + WINDOW);
    assert_eq!(dedup.segments().count(), 2);
    dedup.trim(at(START + WINDOW + 1)).unwrap();
    assert_eq!(folder.names().unwrap(), ["0000000002.ids"]);
    assert_eq!(dedup.window(at(START + WINDOW + 1)), Duration::from_secs(WINDOW.into()));
    open(&folder, ROOMY, START + WINDOW + 11);
    assert!(folder.names().unwrap().is_empty());
}

#[test]
fn the_oldest_file_goes_where_all_are_too_large_and_the_window_says_so() {
    let folder = SimFolder::new();
    let (mut dedup, _) = open(&folder, 20_000, START);
    for segment in 1..=3 {
        let now = START + segment;
        note(&mut dedup, segment * 1_000..segment * 1_000 + 200, now);
        finish(&mut dedup, segment.into(), now);
    }
    assert_eq!(dedup.segments().collect::<Vec<_>>(), [3], "{} bytes each", dedup.bytes());
    assert_eq!(folder.names().unwrap(), ["0000000003.ids"]);
    assert!(!knows(&dedup, 2_000, START + 3) && knows(&dedup, 3_000, START + 3));
    assert_eq!(dedup.window(at(START + 100)), Duration::from_secs(98));
    assert_eq!(dedup.window(at(START + 2 * WINDOW)), Duration::from_secs(WINDOW.into()));
    // The file of a later segment keeps it in mind.
    note(&mut dedup, [1], START + 4);
    finish(&mut dedup, 4, START + 4);
    assert_eq!(open(&folder, ROOMY, START + 4).0.window(at(START + 100)), Duration::from_secs(98));
}

#[test]
fn filters_and_files_have_a_limit() {
    let folder = SimFolder::new();
    let (mut dedup, _) = open(&folder, ROOMY, START);
    for segment in 0..=MOST_FILES as u64 {
        note(&mut dedup, [segment as u32], START);
        finish(&mut dedup, segment, START);
        assert!(dedup.segments().count() <= MOST_FILES);
    }
    assert_eq!((dedup.segments().next(), dedup.segments().count()), (Some(1), MOST_FILES));
    dedup.most_memory = dedup.memory() / 2;
    dedup.trim(at(START)).unwrap();
    assert_eq!(dedup.segments().next(), Some(1 + MOST_FILES as u64 / 2));
}

#[test]
fn a_file_that_cannot_be_written_is_tried_again() {
    let operations = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncFolder,
        Operation::Read,
    ];
    for operation in operations {
        let folder = SimFolder::new();
        let (mut dedup, _) = open(&folder, ROOMY, START);
        note(&mut dedup, 0..300, START);
        let sealing = dedup.seal(1, at(START));
        folder.fail(Failure::new(operation, ErrorKind::StorageFull).short(100));
        assert_eq!(sealing.write().unwrap_err().kind(), ErrorKind::StorageFull, "{operation:?}");
        assert!((0..300).all(|number| knows(&dedup, number, START)), "{operation:?}");
        folder.heal();
        dedup.adopt(sealing.write().unwrap(), at(START)).unwrap();
        assert!((0..300).all(|number| knows(&dedup, number, START)), "{operation:?}");
        assert_eq!(folder.names().unwrap(), ["0000000001.ids"]);
    }
}

#[test]
fn a_file_is_whole_or_not_there_whenever_the_power_goes() {
    let mut seen = [0; 2];
    for seed in 0..200 {
        let folder = SimFolder::new();
        let (mut dedup, _) = open(&folder, ROOMY, START);
        note(&mut dedup, 0..300, START);
        let operations = [Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncFolder];
        folder.fail(
            Failure::new(operations[seed % 4], ErrorKind::Other).after(seed as u64 / 4 % 3).short(seed * 10),
        );
        let written = dedup.seal(1, at(START)).write().is_ok();
        let cut = folder.power_cut(seed as u64);
        let (after, damaged) = open(&cut, ROOMY, START);
        assert!(damaged.is_empty(), "{seed}");
        let there = after.segments().count();
        assert!(there == 1 || !written, "{seed}");
        assert!((0..300).all(|number| knows(&after, number, START) == (there == 1)), "{seed}");
        assert!(cut.names().unwrap().iter().all(|name| name.ends_with(".ids")), "{seed}");
        seen[there] += 1;
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}

#[test]
fn what_is_new_hardly_ever_costs_a_look_at_the_disk() {
    let folder = SimFolder::new();
    let (mut dedup, _) = open(&folder, ROOMY, START);
    for segment in 0..80 {
        note(&mut dedup, segment * 1_000..(segment + 1) * 1_000, START);
        finish(&mut dedup, segment.into(), START);
    }
    let reads = |numbers: std::ops::Range<u32>| {
        let (before, count) = (folder.counts().reads, numbers.len() as u64);
        for number in numbers {
            assert_eq!(knows(&dedup, number, START), number < 80_000);
        }
        (folder.counts().reads - before) as f64 / count as f64
    };
    let (new, known) = (reads(80_000..82_000), reads(0..2_000));
    assert!(new < 0.6, "{new} reads for one that is new");
    assert!((1.0..2.2).contains(&known), "{known} reads for one that is known");
}

#[test]
fn files_are_searched_without_the_rest() {
    let (mut dedup, _) = open(&SimFolder::new(), ROOMY, START);
    note(&mut dedup, [0], START);
    let before = dedup.files().clone();
    assert!(before.are(dedup.files()));
    finish(&mut dedup, 1, START);
    // Whoever looked into the files before, and into memory after, would have missed it.
    assert_eq!(before.find(&identity(0), at(START)).unwrap(), None);
    assert_eq!(dedup.find_in_memory(&identity(0), at(START)), None);
    assert!(!before.are(dedup.files()));
    assert!(dedup.files().find(&identity(0), at(START)).unwrap().is_some());
}

#[test]
fn a_forgotten_segment_is_gone() {
    let folder = SimFolder::new();
    let (mut dedup, _) = open(&folder, ROOMY, START);
    note(&mut dedup, [0], START);
    finish(&mut dedup, 1, START);
    note(&mut dedup, [1], START + 5);
    dedup.seal(2, at(START));
    dedup.forget(1, at(START)).unwrap();
    dedup.forget(2, at(START)).unwrap();
    assert!(!knows(&dedup, 0, START) && !knows(&dedup, 1, START));
    assert!(folder.names().unwrap().is_empty());
    assert_eq!(dedup.window(at(START + 60)), Duration::from_secs(55));
}

#[test]
fn a_segment_without_identities_has_a_file_too() {
    let folder = SimFolder::new();
    let (mut dedup, _) = open(&folder, ROOMY, START);
    assert!(dedup.lacks(1, at(START), at(START)));
    finish(&mut dedup, 1, START);
    assert!(!dedup.lacks(1, at(START), at(START)));
    assert!(!knows(&dedup, 0, START));
    let (mut dedup, damaged) = open(&folder, ROOMY, START + WINDOW);
    assert_eq!((dedup.segments().collect::<Vec<_>>(), damaged), (vec![1], vec![]));
    dedup.trim(at(START + WINDOW + 1)).unwrap();
    assert_eq!(dedup.segments().count(), 0);
}

#[test]
fn what_was_let_go_is_not_rebuilt() {
    let folder = SimFolder::new();
    let (mut dedup, _) = open(&folder, 20_000, START);
    for segment in 1..=3 {
        note(&mut dedup, segment * 1_000..segment * 1_000 + 200, START + segment);
        finish(&mut dedup, segment.into(), START + segment);
    }
    let lacking = |segment: u32, now| dedup.lacks(segment.into(), at(START + segment), at(now));
    assert!(!lacking(1, START + 9) && !lacking(2, START + 9) && !lacking(3, START + 9));
    assert!(lacking(4, START + 4 + WINDOW) && !lacking(4, START + 5 + WINDOW));
}
