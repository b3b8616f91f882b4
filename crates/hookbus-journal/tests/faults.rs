//! The disk refuses, for a while or for good: nothing accepted is lost, and what can heal heals by itself.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that fails says so"
)]

mod rig;

use std::{io::ErrorKind, sync::Arc, time::Duration};

use hookbus_core::RecordKey;
use hookbus_journal::{
    Appended, Backlog, Folder, Journal, JournalError, Settings, Unopenable,
    sim::{Failure, Operation, SimFolder},
};
use rig::{Rig, SOON, drain, event, ids, settings, sinks, take};

const KIB: u64 = 1 << 10;

fn small(max_size: u64) -> Settings {
    Settings { segment_size: 64 * KIB, max_size, ..settings() }
}

fn open(disk: &SimFolder, settings: Settings) -> Rig {
    Rig::open_with(Arc::new(disk.clone()), settings, &sinks(&["one"])).unwrap()
}

/// Accepts events until one is refused.
async fn until_refused(rig: &Rig, accepted: &mut Vec<String>, bytes: usize) -> JournalError {
    for _ in 0..10_000 {
        match accept(rig, accepted, bytes).await {
            Ok(()) => {}
            Err(error) => return error,
        }
    }
    panic!("everything was accepted");
}

async fn accept(rig: &Rig, accepted: &mut Vec<String>, bytes: usize) -> Result<(), JournalError> {
    // What was refused does not come, so its name may be used again, with another one behind it.
    let id = format!("e{}-{}", accepted.len(), bytes);
    rig.accept(&event(&id, bytes), &[0]).await?;
    accepted.push(id);
    Ok(())
}

/// Tries until it accepts again, by itself.
async fn until_accepted(rig: &Rig, accepted: &mut Vec<String>, bytes: usize) {
    let trying = async {
        while accept(rig, accepted, bytes).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, trying).await.expect("it accepts again");
}

/// All that a journal in this state of the disk hands out.
async fn all(disk: &SimFolder, settings: Settings) -> Vec<String> {
    let rig = open(disk, settings);
    let entries = drain(&mut rig.journal.backlog(0)).await;
    assert_eq!(rig.journal.damaged(), 0);
    rig.close().await;
    ids(&entries)
}

async fn a_write_that_fails_for_a_while(failure: Failure) {
    let disk = SimFolder::new();
    let rig = open(&disk, small(4096 * KIB));
    let mut accepted = Vec::new();
    for _ in 0..3 {
        accept(&rig, &mut accepted, 300).await.unwrap();
    }
    disk.fail(failure.of(".segment"));
    // It waits for the disk, and is answered when it is there.
    let Ok(Appended::New(held)) = rig.journal.append(&event("held", 300), &rig::destinations(&[0])).await
    else {
        panic!("it is new")
    };
    accepted.push("held".into());
    let refused = async {
        loop {
            let more = format!("more-{}", accepted.len());
            match rig.journal.append(&event(&more, 300), &rig::destinations(&[0])).await {
                Ok(_) => {
                    // The writer has not met the failure yet; this one waits like the first.
                    accepted.push(more);
                    tokio::task::yield_now().await;
                }
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(SOON, refused).await.expect("it refuses");
    assert!(matches!(error, JournalError::Disk(_)), "{error}");
    disk.heal();
    tokio::time::timeout(SOON, held.durable()).await.expect("an answer").unwrap();
    until_accepted(&rig, &mut accepted, 300).await;
    let safe = disk.power_cut(1);
    rig.close().await;
    assert_eq!(all(&safe, small(4096 * KIB)).await, accepted);
    assert_eq!(all(&disk, small(4096 * KIB)).await, accepted);
}

#[tokio::test]
async fn while_the_disk_is_full_events_are_refused_and_afterwards_accepted() {
    a_write_that_fails_for_a_while(Failure::new(Operation::Write, ErrorKind::StorageFull)).await;
}

#[tokio::test]
async fn while_the_disk_is_read_only_events_are_refused_and_afterwards_accepted() {
    a_write_that_fails_for_a_while(Failure::new(Operation::Write, ErrorKind::ReadOnlyFilesystem)).await;
}

#[tokio::test]
async fn a_write_that_did_a_part_is_done_again_whole() {
    for part in [1, 40, 200] {
        let failure = Failure::new(Operation::Write, ErrorKind::StorageFull).short(part);
        a_write_that_fails_for_a_while(failure).await;
    }
}

#[tokio::test]
async fn a_journal_that_closes_while_it_cannot_write_says_so_to_whoever_waits() {
    let disk = SimFolder::new();
    let rig = open(&disk, small(4096 * KIB));
    let mut accepted = Vec::new();
    accept(&rig, &mut accepted, 300).await.unwrap();
    disk.fail(Failure::new(Operation::Write, ErrorKind::StorageFull));
    let Ok(Appended::New(held)) = rig.journal.append(&event("held", 300), &rig::destinations(&[0])).await
    else {
        panic!("it is new")
    };
    rig.close().await;
    let answer = tokio::time::timeout(SOON, held.durable()).await.expect("an answer");
    assert!(matches!(answer, Err(JournalError::Disk(_) | JournalError::Closed)), "{answer:?}");
    disk.heal();
    assert_eq!(all(&disk, small(4096 * KIB)).await, accepted);
}

async fn a_segment_that_cannot_be_made(failures: &[Failure]) {
    let disk = SimFolder::new();
    let rig = open(&disk, small(4096 * KIB));
    for failure in failures {
        disk.fail(failure.clone());
    }
    let mut accepted = Vec::new();
    let error = until_refused(&rig, &mut accepted, 3000).await;
    assert!(matches!(error, JournalError::Disk(_)), "{error}");
    // What is delivered meanwhile can still be noted.
    let mut backlog = rig.journal.backlog(0);
    for entry in take(&mut backlog, 5).await {
        backlog.resolve(entry.id);
    }
    until_noted(&disk, &accepted[5..], small(4096 * KIB)).await;
    disk.heal();
    until_accepted(&rig, &mut accepted, 3000).await;
    let safe = disk.power_cut(3);
    rig.close().await;
    assert_eq!(all(&safe, small(4096 * KIB)).await, accepted[5..]);
}

/// Waits until nothing but these comes after a power cut.
async fn until_noted(disk: &SimFolder, left: &[String], settings: Settings) {
    let noted = async {
        while all(&disk.power_cut(7), settings.clone()).await != left {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, noted).await.expect("the cursor is noted");
}

#[tokio::test]
async fn without_room_for_another_segment_cursors_are_noted_in_the_reserve() {
    a_segment_that_cannot_be_made(&[Failure::new(Operation::Create, ErrorKind::StorageFull)]).await;
}

#[tokio::test]
async fn a_segment_that_was_half_made_is_made_again() {
    // The one behind the next, which is made at once; it cannot be written, and not be removed either.
    let next = "0000000003";
    let failures = [
        Failure::new(Operation::Write, ErrorKind::ReadOnlyFilesystem).of(next),
        Failure::new(Operation::Remove, ErrorKind::ReadOnlyFilesystem).of(next),
    ];
    a_segment_that_cannot_be_made(&failures).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_synced_gets_no_new_segment() {
    a_segment_that_cannot_be_made(&[Failure::new(Operation::SyncFolder, ErrorKind::Other)]).await;
}

#[tokio::test]
async fn a_full_journal_goes_on_when_slow_sinks_have_drained_it() {
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let disk = SimFolder::new();
    let tiny = Settings { segment_size: 12 * KIB, ..small(48 * KIB) };
    let rig = Rig::open_with(Arc::new(disk.clone()), tiny.clone(), &sinks(&NAMES)).unwrap();
    let everybody: Vec<_> = (0..NAMES.len()).collect();
    let mut left = 0;
    while rig.accept(&event(&format!("e{left}"), 150), &everybody).await.is_ok() {
        left += 1;
    }
    let mut lanes: Vec<_> = everybody.iter().map(|sink| rig.journal.backlog(*sink)).collect();
    // One at a time, each of them noted, as long as there is room for notes.
    for _ in 0..6 {
        let written = disk.counts().writes;
        for lane in &mut lanes {
            resolve(lane, 1).await;
        }
        left -= 1;
        let noted = async {
            while disk.counts().writes == written {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(1), noted).await.is_err() {
            break;
        }
    }
    for lane in &mut lanes {
        resolve(lane, left).await;
    }
    let accepted = async {
        while rig.accept(&event("last", 150), &everybody).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, accepted).await.expect("it accepts again");
    rig.close().await;
    let rig = Rig::open_with(Arc::new(disk), tiny, &sinks(&NAMES)).unwrap();
    for sink in everybody {
        assert_eq!(ids(&drain(&mut rig.journal.backlog(sink)).await), ["last"]);
    }
    rig.close().await;
}

async fn resolve(lane: &mut Backlog, count: usize) {
    let entries = take(lane, count).await;
    lane.resolve_all(entries.into_iter().map(|entry| entry.id));
}

#[tokio::test]
async fn an_event_that_is_larger_than_a_segment_is_refused_and_the_next_one_is_not() {
    let disk = SimFolder::new();
    let rig = open(&disk, small(4096 * KIB));
    let mut accepted = Vec::new();
    let refused = tokio::time::timeout(SOON, accept(&rig, &mut accepted, 60_000)).await.expect("an answer");
    assert!(matches!(refused, Err(JournalError::TooLarge)), "{refused:?}");
    accept(&rig, &mut accepted, 40_000).await.unwrap();
    rig.close().await;
    assert!(disk.names().unwrap().len() < 5, "it made no segments for what has no room in them");
    assert_eq!(all(&disk, small(4096 * KIB)).await, accepted);
}

#[tokio::test]
async fn a_failed_sync_is_final_and_costs_nothing_that_was_accepted() {
    let disk = SimFolder::new();
    let rig = open(&disk, small(4096 * KIB));
    let mut accepted = Vec::new();
    for _ in 0..5 {
        accept(&rig, &mut accepted, 300).await.unwrap();
    }
    disk.fail(Failure::new(Operation::Sync, ErrorKind::Other).of("0000000001").times(1));
    let failed = rig.accept(&event("failed", 300), &[0]).await;
    assert!(matches!(failed, Err(JournalError::Failed)), "{failed:?}");
    for _ in 0..3 {
        // The disk says yes again, and is not believed.
        let later = rig.journal.append(&event("later", 300), &rig::destinations(&[0])).await;
        assert!(matches!(later, Err(JournalError::Failed)), "{later:?}");
    }
    rig.close().await;
    for seed in 0..20 {
        let mut there = all(&disk.power_cut(seed), small(4096 * KIB)).await;
        there.retain(|id| id != "failed");
        assert_eq!(there, accepted, "whatever was accepted, and nothing that came later");
    }
}

#[tokio::test]
async fn two_journals_do_not_disturb_each_other() {
    let disks = [SimFolder::new(), SimFolder::new()];
    let rigs = disks.each_ref().map(|disk| open(disk, small(4096 * KIB)));
    let mut accepted = [Vec::new(), Vec::new()];
    for round in 0..40 {
        for (rig, accepted) in rigs.iter().zip(&mut accepted) {
            accept(rig, accepted, 300 + round).await.unwrap();
        }
    }
    disks[0].fail(Failure::new(Operation::Sync, ErrorKind::Other));
    assert!(accept(&rigs[0], &mut accepted[0], 300).await.is_err());
    accept(&rigs[1], &mut accepted[1], 300).await.unwrap();
    for rig in rigs {
        rig.close().await;
    }
    disks[0].heal();
    assert_eq!(all(&disks[1], small(4096 * KIB)).await, accepted[1]);
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_loses_nothing() {
    let disk = SimFolder::new();
    let rig = open(&disk, small(4096 * KIB));
    let mut accepted = Vec::new();
    for _ in 0..30 {
        accept(&rig, &mut accepted, 300).await.unwrap();
    }
    rig.close().await;
    let rig = open(&disk, small(4096 * KIB));
    disk.fail(Failure::new(Operation::Read, ErrorKind::Other));
    let mut backlog: Backlog = rig.journal.backlog(0);
    let room = hookbus_journal::Room { events: 100, bytes: usize::MAX };
    assert_eq!(backlog.take(room).await.unwrap_err().kind(), ErrorKind::Other);
    disk.heal();
    assert_eq!(ids(&take(&mut backlog, 30).await), accepted);
    rig.close().await;
}

fn refused(disk: &SimFolder, key: [u8; 32]) -> Unopenable {
    let key = RecordKey::new(&key).unwrap();
    Journal::open(Arc::new(disk.clone()), key, settings(), &sinks(&["one"])).expect_err("it is refused")
}

#[tokio::test]
async fn a_journal_of_another_key_is_refused_and_stays_as_it_is() {
    let disk = SimFolder::new();
    let rig = open(&disk, small(4096 * KIB));
    let mut accepted = Vec::new();
    accept(&rig, &mut accepted, 300).await.unwrap();
    rig.close().await;
    let error = refused(&disk, [8; 32]);
    assert!(matches!(error, Unopenable::OtherKey { segment: 1 | 2 }), "{error}");
    assert_eq!(all(&disk, small(4096 * KIB)).await, accepted);
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_refused_and_stays_as_it_is() {
    let disk = SimFolder::new();
    let rig = open(&disk, small(4096 * KIB));
    let mut accepted = Vec::new();
    accept(&rig, &mut accepted, 300).await.unwrap();
    rig.close().await;
    let name = "0000000001.segment";
    let old = disk.bytes(name).unwrap();
    let mut newer = old.clone();
    newer[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let sum = blake3::hash(&newer[..24]);
    newer[24..32].copy_from_slice(&sum.as_bytes()[..8]);
    disk.put(name, &newer);
    let error = refused(&disk, [7; 32]);
    assert!(matches!(&error, Unopenable::Newer { segment: 1, why } if why.contains('2')), "{error}");
    disk.put(name, &old);
    assert_eq!(all(&disk, small(4096 * KIB)).await, accepted);
}

#[tokio::test]
async fn a_torn_group_leaves_no_count_of_what_it_took() {
    let disk = SimFolder::new();
    let rig = Rig::open_with(Arc::new(disk.clone()), small(4096 * KIB), &sinks(&["one", "two"])).unwrap();
    for at in 0..600 {
        let appended = rig.journal.append(&event(&format!("e{at}"), 150), &rig::destinations(&[0])).await;
        let Ok(Appended::New(commit)) = appended else { panic!("{appended:?}") };
        if at == 599 {
            commit.durable().await.unwrap();
        }
    }
    let mut backlog = rig.journal.backlog(0);
    let taken = take(&mut backlog, 600).await;
    // An event, and behind it how far the sink has got: so much has changed that it is noted with the next group.
    disk.fail(Failure::new(Operation::Sync, ErrorKind::Other).of(".segment"));
    backlog.resolve_all(taken.iter().map(|entry| entry.id));
    let torn = rig.accept(&event("torn", 3000), &[0, 1]).await;
    assert!(matches!(torn, Err(JournalError::Failed)), "{torn:?}");
    rig.close().await;
    for seed in 0..60 {
        let disk = disk.power_cut(seed);
        let rig = Rig::open_with(Arc::new(disk), small(4096 * KIB), &sinks(&["one", "two"])).unwrap();
        for sink in 0..2 {
            let there = drain(&mut rig.journal.backlog(sink)).await.len() as u64;
            assert_eq!(rig.journal.pending()[sink].events, there, "sink {sink}, cut {seed}");
        }
        rig.close().await;
    }
}

#[tokio::test]
async fn what_can_never_be_read_counts_as_damaged_and_holds_up_nothing() {
    let disk = SimFolder::new();
    let rig = open(&disk, small(4096 * KIB));
    let mut accepted = Vec::new();
    while rig.journal.figures().segments < 3 {
        accept(&rig, &mut accepted, 3000).await.unwrap();
    }
    rig.close().await;
    let rig = open(&disk, small(4096 * KIB));
    disk.fail(Failure::new(Operation::Read, ErrorKind::Other).of("0000000001"));
    let mut backlog = rig.journal.backlog(0);
    let room = hookbus_journal::Room { events: 100, bytes: usize::MAX };
    let mut tries = 0;
    let first = loop {
        match backlog.take(room).await {
            Ok(entries) if entries.is_empty() => {}
            Ok(entries) => break entries,
            Err(_) => tries += 1,
        }
        assert!(tries < 100, "it never ends");
    };
    assert!(tries > 3, "not at once: it may be for a moment only");
    let mut there = ids(&first);
    there.extend(ids(&drain(&mut backlog).await));
    assert!(!there.is_empty() && accepted.ends_with(&there), "{there:?}");
    assert!(rig.journal.damaged() > 0, "that is told");
    rig.close().await;
}

#[tokio::test]
async fn a_segment_that_cannot_be_let_go_of_is_counted_until_it_can() {
    for operation in [Operation::Rename, Operation::Remove] {
        let disk = SimFolder::new();
        let rig = open(&disk, small(512 * KIB));
        for operation in [Operation::Rename, operation] {
            disk.fail(Failure::new(operation, ErrorKind::ReadOnlyFilesystem).of(".segment"));
        }
        let mut backlog = rig.journal.backlog(0);
        let mut accepted = Vec::new();
        let refused = async {
            loop {
                if let Err(error) = accept(&rig, &mut accepted, 3000).await {
                    return error;
                }
                resolve(&mut backlog, 1).await;
            }
        };
        let refused = tokio::time::timeout(SOON, refused).await.expect("it is full");
        assert!(matches!(refused, JournalError::Disk(_)), "{refused}");
        let names = disk.names().unwrap();
        let files = names.iter().filter(|name| name.ends_with(".segment")).count();
        assert_eq!(rig.journal.figures().segments, files as u64, "what is there is counted");
        disk.heal();
        until_accepted(&rig, &mut accepted, 3000).await;
        resolve(&mut backlog, 1).await;
        rig.close().await;
        assert!(all(&disk, small(512 * KIB)).await.is_empty());
    }
}
