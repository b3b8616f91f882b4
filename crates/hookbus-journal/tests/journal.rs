//! What is accepted comes out again, however the journal ended.

mod rig;

use std::sync::Arc;

use hookbus_journal::{
    Appended, Folder, JournalError, RealFolder, Room, SinkSettings,
    sim::{Failure, Operation, SimFolder},
};

use rig::{MIB, Rig, SOON, drain, event, ids, settings, sinks, take};

#[tokio::test]
async fn an_accepted_event_is_handed_to_its_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(Arc::new(RealFolder::open(folder.path()).unwrap()), &["one", "two", "three"]);
    let sent = event("a", 900);
    rig.accept(&sent, &[0, 2]).await.unwrap();
    for (sink, count) in [(0, 1), (1, 0), (2, 1)] {
        let mut backlog = rig.journal.backlog(sink);
        let entries = match count {
            0 => backlog.take(Room { events: 1, bytes: 1 }).await.unwrap(),
            count => take(&mut backlog, count).await,
        };
        assert_eq!(entries.len(), count, "sink {sink}");
        for entry in &entries {
            assert_eq!(entry.event.body(), sent.body());
            assert_eq!(entry.address, rig::address());
            backlog.resolve(entry.id);
        }
    }
    assert!(rig.journal.pending().iter().all(|pending| pending.events == 0 && pending.bytes == 0));
    rig.close().await;
}

#[tokio::test]
async fn what_was_not_resolved_comes_again_after_a_crash_and_in_order() {
    let folder = SimFolder::new();
    let rig = Rig::open(Arc::new(folder.clone()), &["one", "two"]);
    for at in 0..50 {
        rig.accept(&event(&format!("e{at}"), 300), &[0, 1]).await.unwrap();
    }
    let mut backlog = rig.journal.backlog(0);
    let entries = take(&mut backlog, 30).await;
    for entry in entries.iter().filter(|entry| entry.id.sequence % 3 == 0) {
        backlog.resolve(entry.id);
    }
    let left: Vec<_> =
        ids(&entries.iter().filter(|entry| entry.id.sequence % 3 != 0).cloned().collect::<Vec<_>>());
    rig.close().await;
    let rig = Rig::open(Arc::new(folder.crash()), &["one", "two"]);
    let mut backlog = rig.journal.backlog(0);
    let again = ids(&take(&mut backlog, 20 + left.len()).await);
    let expected: Vec<_> = left.into_iter().chain((30..50).map(|at| format!("e{at}"))).collect();
    assert_eq!(again, expected);
    let other = ids(&take(&mut rig.journal.backlog(1), 50).await);
    assert_eq!(other, (0..50).map(|at| format!("e{at}")).collect::<Vec<_>>());
    rig.close().await;
}

#[tokio::test]
async fn a_sink_that_was_away_catches_up_from_disk_in_order() {
    let folder = SimFolder::new();
    let rig = Rig::open(Arc::new(folder.clone()), &["slow", "fast"]);
    let mut fast = rig.journal.backlog(1);
    let count = 6_000;
    for at in 0..count {
        let new = event(&format!("e{at}"), 900);
        let appended = rig.journal.append(&new, &rig::destinations(&[0, 1])).await;
        let Ok(Appended::New(commit)) = appended else { panic!("{appended:?}") };
        if at % 100 == 99 {
            commit.durable().await.unwrap();
            for entry in take(&mut fast, 100).await {
                fast.resolve(entry.id);
            }
        }
    }
    let mut slow = rig.journal.backlog(0);
    let mut seen = Vec::new();
    while seen.len() < count {
        // New events come while it catches up.
        let at = count + seen.len();
        let entries = take(&mut slow, 1).await;
        let entries =
            entries.into_iter().chain(slow.take(Room { events: 499, bytes: usize::MAX }).await.unwrap());
        for entry in entries {
            seen.push(entry.event.id().as_str().to_owned());
            slow.resolve(entry.id);
        }
        rig.accept(&event(&format!("n{at}"), 900), &[1]).await.unwrap();
    }
    assert_eq!(seen, (0..count).map(|at| format!("e{at}")).collect::<Vec<_>>());
    rig.close().await;
    let rig = Rig::open(Arc::new(folder.crash()), &["slow", "fast"]);
    assert!(drain(&mut rig.journal.backlog(0)).await.is_empty(), "all of it was resolved");
    rig.close().await;
}

#[tokio::test]
async fn delivered_segments_go_and_the_journal_stays_within_its_size() {
    let folder = SimFolder::new();
    let small = hookbus_journal::Settings { max_size: 6 * MIB, ..settings() };
    let rig = Rig::open_with(Arc::new(folder.clone()), small, &sinks(&["one"])).unwrap();
    let mut backlog = rig.journal.backlog(0);
    for at in 0..300 {
        rig.accept(&event(&format!("e{at}"), 60_000), &[0]).await.unwrap();
        for entry in take(&mut backlog, 1).await {
            backlog.resolve(entry.id);
        }
    }
    rig.close().await;
}

#[tokio::test]
async fn a_dead_sink_with_little_traffic_costs_the_others_nothing() {
    let folder = SimFolder::new();
    let small = hookbus_journal::Settings { max_size: 8 * MIB, ..settings() };
    let rig = Rig::open_with(Arc::new(folder.clone()), small.clone(), &sinks(&["dead", "busy"])).unwrap();
    let (mut dead, mut busy) = (rig.journal.backlog(0), rig.journal.backlog(1));
    // It has taken two when it dies.
    let mut expected = Vec::new();
    for at in 0..80 * 16 {
        let for_dead = at % 40 == 0;
        let to: &[usize] = if for_dead { &[0, 1] } else { &[1] };
        rig.accept(&event(&format!("e{at}"), 60_000), to).await.unwrap();
        expected.extend(for_dead.then(|| format!("e{at}")));
        for entry in take(&mut busy, 1).await {
            busy.resolve(entry.id);
        }
        if at == 40 {
            assert_eq!(ids(&take(&mut dead, 2).await), expected[..2]);
        }
    }
    assert_eq!(rig.journal.pending()[0].events, expected.len() as u64);
    let names = folder.names().unwrap();
    let bytes: usize = names.iter().filter_map(|name| folder.bytes(name)).map(|bytes| bytes.len()).sum();
    assert!(bytes as u64 <= 9 * MIB, "{bytes}");
    rig.close().await;
    let rig = Rig::open_with(Arc::new(folder.crash()), small, &sinks(&["dead", "busy"])).unwrap();
    let mut dead = rig.journal.backlog(0);
    let entries = take(&mut dead, expected.len()).await;
    assert_eq!(ids(&entries), expected);
    for entry in &entries {
        assert_eq!(dead.again(entry.id).await.unwrap().event.body(), entry.event.body());
        dead.resolve(entry.id);
    }
    assert_eq!(rig.journal.pending()[0].events, 0);
    rig.close().await;
}

#[tokio::test]
async fn a_redelivery_goes_only_where_the_event_is_new_also_after_a_restart() {
    let folder = SimFolder::new();
    let rig = Rig::open(Arc::new(folder.clone()), &["one", "two", "three"]);
    let sent = event("a", 900);
    assert!(!rig.append(&sent, &[0]).await.unwrap());
    assert!(rig.append(&sent, &[0]).await.unwrap());
    assert!(!rig.append(&sent, &[0, 1]).await.unwrap(), "a route has come");
    assert!(rig.append(&sent, &[1, 0]).await.unwrap());
    let mut two = rig.journal.backlog(1);
    assert_eq!(take(&mut two, 1).await.len(), 1);
    rig.journal.give_up(&sent, "two", &rig::address());
    assert!(!rig.append(&sent, &[0, 1]).await.unwrap(), "it is a dead letter there");
    assert_eq!(take(&mut two, 1).await.len(), 1);
    assert!(rig.append(&sent, &[0, 1]).await.unwrap());
    rig.close().await;
    for folder in [folder.crash(), folder.power_cut(1)] {
        let rig = Rig::open(Arc::new(folder), &["one", "two", "three"]);
        assert!(rig.append(&sent, &[0, 1]).await.unwrap());
        assert!(!rig.append(&sent, &[0, 1, 2]).await.unwrap());
        assert_eq!(take(&mut rig.journal.backlog(2), 1).await.len(), 1);
        rig.close().await;
    }
}

#[tokio::test]
async fn a_redelivery_of_what_is_not_safe_yet_waits_for_the_same_fsync() {
    let folder = SimFolder::new();
    let rig = Rig::open(Arc::new(folder.clone()), &["one"]);
    let (sent, to) = (event("a", 900), rig::destinations(&[0]));
    folder.fail(Failure::new(Operation::Sync, std::io::ErrorKind::Other).of("segment"));
    let first = rig.journal.append(&sent, &to).await;
    let second = rig.journal.append(&sent, &to).await;
    let Ok(Appended::New(first)) = first else { panic!("{first:?}") };
    assert!(first.durable().await.is_err());
    match second {
        Ok(Appended::Duplicate(second)) => assert!(second.durable().await.is_err(), "nobody has it"),
        // The disk was quicker.
        refused => assert!(matches!(refused, Err(JournalError::Failed)), "{refused:?}"),
    }
    rig.close().await;
}

#[test]
fn whoever_gives_up_taking_while_the_disk_is_read_hears_when_that_is_done() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let folder = SimFolder::new();
        let rig = Rig::open(Arc::new(folder.clone()), &["one"]);
        rig.accept(&event("a", 300), &[0]).await.unwrap();
        rig.close().await;
        let rig = Rig::open(Arc::new(folder), &["one"]);
        let mut backlog = rig.journal.backlog(0);
        // Nobody reads before this thread is free.
        let (free, occupied) = std::sync::mpsc::sync_channel::<()>(1);
        let reader = tokio::task::spawn_blocking(move || occupied.recv());
        let room = Room { events: 1, bytes: usize::MAX };
        tokio::select! {
            biased;
            taken = backlog.take(room) => panic!("it was read already: {taken:?}"),
            () = std::future::ready(()) => {}
        }
        {
            let mut ready = std::pin::pin!(backlog.ready());
            tokio::select! {
                biased;
                () = &mut ready => panic!("there is nothing to take while the disk is read"),
                () = std::future::ready(()) => {}
            }
            drop(free);
            tokio::time::timeout(SOON, ready).await.expect("it hears of it");
        }
        assert_eq!(ids(&take(&mut backlog, 1).await), ["a"]);
        assert!(reader.await.unwrap().is_err());
        rig.close().await;
    });
}

#[tokio::test]
async fn a_sink_that_is_added_gets_what_comes_from_then_on_also_after_a_crash() {
    let folder = SimFolder::new();
    let rig = Rig::open(Arc::new(folder.clone()), &["one"]);
    rig.accept(&event("before", 300), &[0]).await.unwrap();
    let sink = |name: &str, max_pending| SinkSettings { name: name.into(), max_pending };
    assert_eq!(rig.journal.add(&sink("two", MIB)), 1);
    assert_eq!(rig.journal.add(&sink("one", MIB)), 0, "it is there already");
    for id in ["a", "b"] {
        rig.accept(&event(id, 300), &[0, 1]).await.unwrap();
    }
    assert_eq!(ids(&take(&mut rig.journal.backlog(1), 2).await), ["a", "b"]);
    // A quota may fall while it runs.
    assert_eq!(rig.journal.add(&sink("two", 1)), 1);
    let full = rig.accept(&event("c", 300), &[1]).await;
    assert!(matches!(full, Err(JournalError::SinkFull { .. })), "{full:?}");
    rig.accept(&event("c", 300), &[0]).await.unwrap();
    let rig = Rig::open(Arc::new(folder.crash()), &["two", "one"]);
    assert_eq!(ids(&take(&mut rig.journal.backlog(0), 2).await), ["a", "b"]);
    assert_eq!(ids(&take(&mut rig.journal.backlog(1), 4).await), ["before", "a", "b", "c"]);
    rig.close().await;
}
