//! What dead sinks have to get takes no room from the others, whatever comes in between.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says so")]

mod rig;

use std::{sync::Arc, time::Duration};

use hookbus_journal::{Backlog, JournalError, Settings, sim::SimFolder};
use rig::{Rig, SOON, event, ids, settings, sinks, take};

const KIB: u64 = 1 << 10;
const SEGMENT: u64 = 64 * KIB;

fn small() -> Settings {
    Settings { segment_size: SEGMENT, max_size: 8 * SEGMENT, ..settings() }
}

fn open(disk: &SimFolder, settings: Settings, names: &[&str]) -> Rig {
    Rig::open_with(Arc::new(disk.clone()), settings, &sinks(names)).unwrap()
}

/// Accepts an event for these sinks, of which the living one gets rid at once.
async fn deliver(rig: &Rig, id: &str, to: &[usize], living: &mut Backlog) -> Result<(), JournalError> {
    rig.accept(&event(id, 900), to).await?;
    for entry in take(living, 1).await {
        living.resolve(entry.id);
    }
    Ok(())
}

/// Events for the living sink alone, so many bytes of them; none may be refused.
async fn flood(rig: &Rig, what: &str, bytes: u64, to: usize, living: &mut Backlog) {
    for at in 0..bytes / 900 {
        let delivered = deliver(rig, &format!("{what}{at}"), &[to], living).await;
        assert!(delivered.is_ok(), "{what}, after {} KiB: {delivered:?}", at * 900 / KIB);
    }
}

/// Events for dead sinks.
async fn burst(rig: &Rig, what: &str, count: usize, to: &[usize]) -> Vec<String> {
    let mut sent = Vec::new();
    for at in 0..count {
        let id = format!("{what}{at}");
        rig.accept(&event(&id, 900), to).await.unwrap();
        sent.push(id);
    }
    sent
}

async fn left(rig: &Rig, sink: usize, expected: &[String]) {
    let mut backlog = rig.journal.backlog(sink);
    assert_eq!(ids(&take(&mut backlog, expected.len()).await), expected);
}

#[tokio::test]
async fn after_a_start_with_smaller_segments_what_pins_a_large_one_is_carried_on() {
    let large = Settings { segment_size: 4 * SEGMENT, max_size: 32 * SEGMENT, ..settings() };
    for then in [
        // Only the segments are smaller, all of it is.
        Settings { segment_size: SEGMENT / 2, ..large.clone() },
        Settings { max_size: 8 * SEGMENT, ..large.clone() },
    ] {
        let disk = SimFolder::new();
        let names = ["dead", "living"];
        let rig = open(&disk, large.clone(), &names);
        let mut living = rig.journal.backlog(1);
        let expected = burst(&rig, "burst", 180, &[0]).await;
        flood(&rig, "before", 26 * SEGMENT, 1, &mut living).await;
        rig.close().await;
        let rig = open(&disk, then.clone(), &names);
        let mut living = rig.journal.backlog(1);
        flood(&rig, "after", 3 * then.max_size, 1, &mut living).await;
        let (size, most) = (rig.journal.figures().disk_bytes, then.max_size + 4 * SEGMENT);
        assert!(size <= most, "{size} of {most}");
        rig.close().await;
        left(&open(&disk, then, &names), 0, &expected).await;
    }
}

#[tokio::test]
async fn starts_one_after_the_other_do_not_use_up_the_disk() {
    let disk = SimFolder::new();
    let names = ["dead", "living"];
    let rig = open(&disk, small(), &names);
    let mut living = rig.journal.backlog(1);
    let expected = burst(&rig, "burst", 40, &[0]).await;
    flood(&rig, "before", 4 * SEGMENT, 1, &mut living).await;
    rig.close().await;
    let mut now = disk;
    for _ in 0..30 {
        now = now.crash();
        let rig = open(&now, small(), &names);
        // It ends when it has done nothing but to begin.
        rig.journal.settle(SOON).unwrap();
        let crashed = now.crash();
        rig.close().await;
        now = crashed;
    }
    let rig = open(&now, small(), &names);
    let size = rig.journal.figures().disk_bytes;
    assert!(size <= small().max_size + 4 * SEGMENT, "{} segments", size / SEGMENT);
    assert_eq!(rig.journal.check().unwrap().findings.len(), 0);
    let mut living = rig.journal.backlog(1);
    flood(&rig, "after", 3 * small().max_size, 1, &mut living).await;
    rig.close().await;
    left(&open(&now, small(), &names), 0, &expected).await;
}

/// Longer than anything takes on a disk in memory, and shorter than an event waits before it is refused.
const LONG: Duration = Duration::from_secs(1);

#[test]
fn a_thread_that_reads_for_a_dead_sink_makes_events_wait_and_refuses_none() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        // Looking for re-deliveries would need that thread too.
        let dedup = hookbus_journal::dedup::Settings { max_size: 0, ..small().dedup };
        let small = Settings { dedup, ..small() };
        let disk = SimFolder::new();
        let names = ["dead", "living"];
        let rig = open(&disk, small.clone(), &names);
        let expected = burst(&rig, "burst", 40, &[0]).await;
        rig.close().await;
        let rig = open(&disk, small.clone(), &names);
        let (mut dead, mut living) = (rig.journal.backlog(0), rig.journal.backlog(1));
        // What it has to get is in memory from then on.
        deliver(&rig, "first", &[1], &mut living).await.unwrap();
        // Nobody reads before this thread is free.
        let (free, occupied) = std::sync::mpsc::sync_channel::<()>(1);
        let reader = tokio::task::spawn_blocking(move || occupied.recv());
        tokio::select! {
            biased;
            taken = dead.take(hookbus_journal::Room { events: 1, bytes: usize::MAX }) => panic!("{taken:?}"),
            () = std::future::ready(()) => {}
        }
        // Until an event has to wait: then the journal has come to its limit, and nothing goes on without that thread.
        let mut free = Some(free);
        for at in 0..20 * SEGMENT / 900 {
            let event = event(&format!("e{at}"), 900);
            let mut accepting = std::pin::pin!(rig.accept(&event, &[1]));
            let accepted = match tokio::time::timeout(LONG, &mut accepting).await {
                Ok(accepted) => accepted,
                Err(_) => {
                    drop(free.take());
                    accepting.await
                }
            };
            accepted.unwrap();
            for entry in take(&mut living, 1).await {
                living.resolve(entry.id);
            }
        }
        assert!(free.is_none(), "no event had to wait");
        assert!(reader.await.unwrap().is_err());
        assert_eq!(ids(&take(&mut dead, expected.len()).await), expected);
        rig.close().await;
    });
}

#[tokio::test]
async fn what_several_dead_sinks_have_to_get_counts_once() {
    let disk = SimFolder::new();
    let names = ["one", "two", "three", "living"];
    let rig = open(&disk, small(), &names);
    let mut living = rig.journal.backlog(3);
    // Some two segments of five that may be undelivered, three times.
    let expected = burst(&rig, "burst", 110, &[0, 1, 2]).await;
    flood(&rig, "after", 6 * small().max_size, 3, &mut living).await;
    for sink in 0..3 {
        left(&rig, sink, &expected).await;
    }
    rig.close().await;
}

#[tokio::test]
async fn no_more_is_handed_out_than_a_segment_can_name() {
    let disk = SimFolder::new();
    let large = Settings { max_size: 64 * SEGMENT, ..small() };
    let rig = open(&disk, large.clone(), &["stuck"]);
    let mut stuck = rig.journal.backlog(0);
    let most = stuck.most_taken();
    assert!((1000..2000).contains(&most), "{most}");
    for at in 0..most + 600 {
        let sent =
            rig.journal.append(&event(&format!("e{at}"), 300), &rig::destinations(&[0])).await.unwrap();
        if let (hookbus_journal::Appended::New(commit), 0) = (sent, at % 50) {
            commit.durable().await.unwrap();
        }
    }
    let taken = take(&mut stuck, most).await;
    assert!(rig::drain(&mut stuck).await.is_empty(), "no more");
    assert!(tokio::time::timeout(Duration::from_millis(50), stuck.ready()).await.is_err());
    rig.journal.settle(SOON).unwrap();
    stuck.resolve_all(taken[..500].iter().map(|entry| entry.id));
    assert_eq!(take(&mut stuck, 500).await.len(), 500);
    rig.journal.settle(SOON).unwrap();
    rig.close().await;
    let rig = open(&disk, large, &["stuck"]);
    let again = take(&mut rig.journal.backlog(0), most).await;
    assert_eq!(again[0].id, taken[500].id, "what was resolved is noted");
    rig.close().await;
}

#[tokio::test]
async fn what_is_taken_and_damaged_pins_nothing() {
    let disk = SimFolder::new();
    let names = ["dead", "living"];
    let rig = open(&disk, small(), &names);
    let mut expected = burst(&rig, "burst", 10, &[0]).await;
    let mut dead = rig.journal.backlog(0);
    take(&mut dead, 10).await;
    let mut living = rig.journal.backlog(1);
    flood(&rig, "before", 2 * SEGMENT, 1, &mut living).await;
    rig.close().await;
    let name = "0000000001.segment";
    let mut bytes = disk.bytes(name).unwrap();
    let at = bytes.windows(13).position(|window| window == b"\"id\":\"burst4\"").expect("it is there");
    bytes[at] ^= 1;
    disk.put(name, &bytes);
    let rig = open(&disk, small(), &names);
    // It is carried on before anybody has read it again.
    let mut living = rig.journal.backlog(1);
    flood(&rig, "after", 3 * small().max_size, 1, &mut living).await;
    assert_eq!(rig.journal.damaged(), 1, "that is told, once");
    expected.remove(4);
    left(&rig, 0, &expected).await;
    assert_eq!(rig.journal.pending()[0].events, 9);
    rig.close().await;
}
