//! What a start may believe, and what it must not.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says so")]

mod rig;

use std::{io::ErrorKind, sync::Arc, time::Duration};

use hookbus_journal::{
    Folder, RealFolder, Repaired, Running, Settings, backup, repair,
    sim::{Failure, Operation, SimFolder},
};
use rig::{Rig, SOON, drain, event, ids, key, settings, take};

const KIB: u64 = 1 << 10;

fn small() -> Settings {
    Settings { segment_size: 64 * KIB, max_size: 1024 * KIB, ..settings() }
}

fn open(disk: &SimFolder) -> Rig {
    Rig::open_with(Arc::new(disk.clone()), small(), &rig::sinks(&["one"])).unwrap()
}

/// Accepts so many events, of 3000 bytes each.
async fn accept(rig: &Rig, what: &str, count: usize) -> Vec<String> {
    let mut sent = Vec::new();
    for at in 0..count {
        let id = format!("{what}{at}");
        rig.accept(&event(&id, 3000), &[0]).await.unwrap();
        sent.push(id);
    }
    sent
}

/// Damages the record of an event.
fn damage(disk: &SimFolder, id: &str) -> String {
    let text = format!("\"id\":\"{id}\"");
    let mut names = disk.names().unwrap();
    names.retain(|name| name.ends_with(".segment"));
    for name in names {
        let mut bytes = disk.bytes(&name).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
            bytes[at] ^= 1;
            disk.put(&name, &bytes);
            return name;
        }
    }
    panic!("{id} is nowhere");
}

#[tokio::test]
async fn what_a_failed_sync_left_in_memory_is_written_again_before_it_counts() {
    for seed in 0..20 {
        let disk = SimFolder::new();
        let rig = open(&disk);
        // A real segment has its full length from the beginning.
        let file = disk.open("0000000001.segment").unwrap();
        file.write_at(&[0], 64 * KIB - 1).unwrap();
        file.sync().unwrap();
        let mut expected = accept(&rig, "e", 3).await;
        disk.fail(Failure::new(Operation::Sync, ErrorKind::Other).of("0000000001").times(1));
        rig.accept(&event("late", 3000), &[0]).await.unwrap_err();
        // Only the process ends: the system still has it, and takes it for written.
        let crashed = disk.crash();
        rig.close().await;
        let rig = open(&crashed);
        assert!(rig.append(&event("late", 3000), &[0]).await.unwrap(), "it is there");
        expected.push("late".into());
        let cut = crashed.power_cut(seed);
        rig.close().await;
        let rig = open(&cut);
        assert_eq!(ids(&take(&mut rig.journal.backlog(0), 4).await), expected, "cut {seed}");
        rig.close().await;
    }
}

#[tokio::test]
async fn a_part_that_cannot_be_read_costs_what_is_in_it_and_no_start() {
    for name in ["0000000001", "0000000002"] {
        let disk = SimFolder::new();
        let rig = open(&disk);
        let expected = accept(&rig, "e", 30).await;
        let crashed = disk.crash();
        rig.close().await;
        // The first read of records that fails does so for good; page by page all but one can be read.
        crashed.fail(Failure::new(Operation::Read, ErrorKind::Other).of(name).after(1).times(11));
        let rig = open(&crashed);
        let there = ids(&drain(&mut rig.journal.backlog(0)).await);
        assert!(there.iter().all(|id| expected.contains(id)));
        assert!(there.len() + 3 >= expected.len(), "{there:?}");
        rig.close().await;
    }
}

#[tokio::test]
async fn where_nothing_can_be_read_a_start_fails_and_removes_nothing() {
    let disk = SimFolder::new();
    let rig = open(&disk);
    let expected = accept(&rig, "e", 5).await;
    let crashed = disk.crash();
    rig.close().await;
    crashed.fail(Failure::new(Operation::Read, ErrorKind::Other).of(".segment"));
    let refused = Rig::open_with(Arc::new(crashed.clone()), small(), &rig::sinks(&["one"]));
    assert!(refused.is_err());
    crashed.heal();
    let rig = open(&crashed);
    assert_eq!(ids(&take(&mut rig.journal.backlog(0), 5).await), expected);
    rig.close().await;
}

/// Behind the last record that can be read there may be others that were acknowledged, and nothing would say so.
#[tokio::test]
async fn where_the_end_cannot_be_read_a_start_fails_and_cuts_nothing_off() {
    let large = Settings { segment_size: 1024 * KIB, max_size: 8192 * KIB, ..settings() };
    let open =
        |disk: &SimFolder| Rig::open_with(Arc::new(disk.clone()), large.clone(), &rig::sinks(&["one"]));
    let disk = SimFolder::new();
    let rig = open(&disk).unwrap();
    let expected = accept(&rig, "e", 200).await;
    let crashed = disk.crash();
    rig.close().await;
    // The first page and the first 256 KiB can be read. Then reads fail, for as long as it takes to give up all that records
    // are in, and a little less and more: a start gives up a piece after ten tries, and then page by page.
    for reads in 108..=118 {
        let failing = crashed.crash();
        let unreadable = Failure::new(Operation::Read, ErrorKind::Other).of("0000000001.segment");
        failing.fail(unreadable.after(2).times(reads));
        match open(&failing) {
            // What has others behind it was only away for a while.
            Ok(rig) => {
                assert!(rig.journal.damaged() > 0, "{reads}");
                assert_eq!(ids(&take(&mut rig.journal.backlog(0), 200).await), expected, "{reads}");
                rig.close().await;
            }
            Err(_) => {
                failing.heal();
                let rig = open(&failing).unwrap();
                assert_eq!(rig.journal.damaged(), 0, "{reads}");
                assert_eq!(ids(&take(&mut rig.journal.backlog(0), 200).await), expected, "{reads}");
                rig.close().await;
            }
        }
    }
}

#[tokio::test]
async fn an_event_that_is_lost_is_new_when_it_is_sent_again() {
    // While it runs: damage is met when the sink reads.
    let disk = SimFolder::new();
    let rig = open(&disk);
    accept(&rig, "e", 40).await;
    rig.close().await;
    let before = disk.crash();
    damage(&disk, "e3");
    let rig = open(&disk);
    let mut backlog = rig.journal.backlog(0);
    take(&mut backlog, 39).await;
    assert_eq!(rig.journal.damaged(), 1);
    let again = async {
        while rig.append(&event("e3", 3000), &[0]).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, again).await.expect("it is new");
    assert!(rig.append(&event("e4", 3000), &[0]).await.unwrap(), "this one is not lost");
    rig.close().await;
    // At a start, and by repair.
    for mend in [false, true] {
        let disk = before.crash();
        // The last one: it is read at the start.
        let lost = if mend { "e3" } else { "e39" };
        damage(&disk, lost);
        if mend {
            let folder: Arc<dyn Folder> = Arc::new(disk.clone());
            let done = repair(&folder, &key(), small().dedup).unwrap();
            assert!(done.contains(&Repaired::Table { segment: 1 }), "{done:?}");
            assert!(repair(&folder, &key(), small().dedup).unwrap().is_empty(), "once is enough");
        }
        let rig = open(&disk);
        assert!(!rig.append(&event(lost, 3000), &[0]).await.unwrap(), "{lost} is new");
        assert!(rig.append(&event("e4", 3000), &[0]).await.unwrap());
        rig.close().await;
    }
}

#[tokio::test]
async fn a_damaged_table_is_made_again_at_a_start() {
    let disk = SimFolder::new();
    let rig = open(&disk);
    accept(&rig, "e", 40).await;
    rig.close().await;
    let tables: Vec<_> = disk.names().unwrap().into_iter().filter(|name| name.ends_with(".ids")).collect();
    assert!(!tables.is_empty());
    for table in tables {
        disk.put(&table, b"no table");
    }
    let rig = open(&disk);
    for at in 0..40 {
        assert!(rig.append(&event(&format!("e{at}"), 3000), &[0]).await.unwrap(), "e{at}");
    }
    rig.close().await;
}

#[tokio::test]
async fn a_backup_knows_no_event_that_it_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Folder> = Arc::new(RealFolder::open(folder.path()).unwrap());
    let rig = Rig::open_with(Arc::clone(&disk), small(), &rig::sinks(&["one"])).unwrap();
    for round in 0..8 {
        accept(&rig, &format!("before{round}-"), 6).await;
        let outer = tempfile::tempdir().unwrap();
        let to = outer.path().join("copy");
        let (journal, from, copy) = (rig.journal.clone(), Arc::clone(&disk), to.clone());
        let copying = tokio::task::spawn_blocking(move || {
            let running = Running { journal: Some(&journal), letters: None };
            backup(&from, &key(), running, &copy).unwrap();
        });
        let mut sent = Vec::new();
        while !copying.is_finished() {
            let id = format!("during{round}-{}", sent.len());
            rig.accept(&event(&id, 3000), &[0]).await.unwrap();
            sent.push(id);
        }
        copying.await.unwrap();
        let copy = Rig::open_with(Arc::new(RealFolder::open(&to).unwrap()), small(), &rig::sinks(&["one"]));
        let copy = copy.unwrap();
        let there = ids(&drain(&mut copy.journal.backlog(0)).await);
        for id in sent {
            let known = copy.append(&event(&id, 3000), &[0]).await.unwrap();
            assert_eq!(known, there.contains(&id), "{id}");
        }
        copy.close().await;
    }
    rig.close().await;
}

#[tokio::test]
async fn what_was_delivered_is_noted_soon_where_nothing_comes() {
    let disk = SimFolder::new();
    let rig = open(&disk);
    for at in 0..600 {
        let appended = rig.journal.append(&event(&format!("e{at}"), 300), &rig::destinations(&[0])).await;
        let hookbus_journal::Appended::New(commit) = appended.unwrap() else { panic!("it is new") };
        if at % 100 == 99 {
            commit.durable().await.unwrap();
        }
    }
    let mut backlog = rig.journal.backlog(0);
    let taken = take(&mut backlog, 600).await;
    rig.journal.settle(SOON).unwrap();
    // The writer is about to sleep for long.
    tokio::time::sleep(Duration::from_millis(30)).await;
    let written = disk.counts().syncs;
    let begun = std::time::Instant::now();
    backlog.resolve_all(taken.iter().map(|entry| entry.id));
    while disk.counts().syncs == written {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(begun.elapsed() < Duration::from_millis(120), "{:?}", begun.elapsed());
    rig.close().await;
}
