//! What dead sinks have to get is carried on, so that it pins no segment: nobody else notices, and nothing of it is lost.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says so")]

mod rig;

use std::sync::Arc;

use hookbus_journal::{Appended, Backlog, Folder, JournalError, Settings, sim::SimFolder};
use rig::{Rig, SOON, drain, event, ids, settings, sinks, take};

const KIB: u64 = 1 << 10;
const SEGMENT: u64 = 64 * KIB;

fn small() -> Settings {
    Settings { segment_size: SEGMENT, max_size: 8 * SEGMENT, ..settings() }
}

fn open(disk: &SimFolder, names: &[&str]) -> Rig {
    Rig::open_with(Arc::new(disk.clone()), small(), &sinks(names)).unwrap()
}

/// Accepts an event, of which the living sink gets rid at once.
async fn deliver(
    rig: &Rig,
    id: &str,
    bytes: usize,
    to: &[usize],
    living: &mut Backlog,
) -> Result<(), JournalError> {
    rig.accept(&event(id, bytes), to).await?;
    for entry in take(living, 1).await {
        living.resolve(entry.id);
    }
    Ok(())
}

/// Where the notes of a sink's cursor begin in a segment.
fn notes(segment: &[u8], sink: &str) -> Vec<usize> {
    const HEAD: usize = 40;
    const CURSOR: u8 = 4;
    let generation = &segment[64 + 8..64 + 16];
    let is_one = |at: &usize| {
        let record = &segment[*at..];
        record[..4] == *b"hkbR"
            && record[8..16] == *generation
            && record[32] == CURSOR
            && record[HEAD + 1..].starts_with(sink.as_bytes())
    };
    let last = segment.len() - HEAD - 16 - sink.len();
    (4096..last).step_by(8).filter(is_one).collect()
}

#[tokio::test]
async fn whichever_notes_of_a_cursor_are_damaged_what_was_carried_on_is_there() {
    let disk = SimFolder::new();
    let rig = open(&disk, &["dead", "busy"]);
    let (mut dead, mut busy) = (rig.journal.backlog(0), rig.journal.backlog(1));
    let (mut expected, mut tried, mut handled) = (Vec::new(), 0, 0);
    for at in 0..2000 {
        let to: &[usize] = if at % 25 == 0 { &[0, 1] } else { &[1] };
        let id = format!("e{at}");
        deliver(&rig, &id, 900, to, &mut busy).await.unwrap();
        expected.extend((to.len() == 2).then_some(id));
        // It takes some now and then, and never gets rid of them.
        if at % 300 == 299 {
            handled += take(&mut dead, 2).await.len();
        }
        if at < 600 || at % 97 != 0 {
            continue;
        }
        let now = disk.crash();
        let mut names = now.names().unwrap();
        names.retain(|name| name.ends_with(".segment"));
        names.sort();
        let all: Vec<_> = names
            .iter()
            .flat_map(|name| {
                let notes = notes(&now.bytes(name).unwrap(), "dead");
                notes.into_iter().map(move |note| (name, note))
            })
            .collect();
        // All from this one on, of the last ones.
        for first in all.len().saturating_sub(12)..all.len() {
            let disk = now.crash();
            for (name, note) in &all[first..] {
                let mut damaged = disk.bytes(name).unwrap();
                damaged[note + 44] ^= 1;
                disk.put(name, &damaged);
            }
            let rig = open(&disk, &["dead", "busy"]);
            let what = format!("from {:?} on, {} events", all[first], expected.len());
            let mut backlog = rig.journal.backlog(0);
            // What is being carried on just now is there a moment later.
            let mut there = Vec::new();
            let _ = tokio::time::timeout(SOON, async {
                while there.len() < expected.len() {
                    there.extend(take(&mut backlog, 1).await);
                }
            })
            .await;
            there.extend(drain(&mut backlog).await);
            assert_eq!(ids(&there), expected, "{what}");
            rig.close().await;
            tried += 1;
        }
    }
    assert!(tried > 50 && handled > 5, "{tried} notes damaged");
    rig.close().await;
}

#[tokio::test]
async fn three_dead_sinks_with_a_burst_behind_them_cost_the_living_one_nothing() {
    let disk = SimFolder::new();
    let rig = open(&disk, &["one", "two", "three", "living"]);
    let mut living = rig.journal.backlog(3);
    let mut expected = Vec::new();
    // A segment full of what none of them takes.
    for at in 0..52 {
        let id = format!("burst{at}");
        rig.accept(&event(&id, 900), &[0, 1, 2]).await.unwrap();
        expected.push(id);
    }
    let mut sent = 0;
    while sent < 10 * small().max_size {
        let id = format!("e{sent}");
        let refused = deliver(&rig, &id, 900, &[3], &mut living).await;
        assert!(refused.is_ok(), "after {} of {} KiB: {refused:?}", sent / KIB, 10 * small().max_size / KIB);
        sent += 900;
    }
    assert!(rig.journal.figures().disk_bytes <= small().max_size + SEGMENT);
    rig.close().await;
    let rig = open(&disk, &["one", "two", "three", "living"]);
    for sink in 0..3 {
        let mut backlog = rig.journal.backlog(sink);
        let there = take(&mut backlog, expected.len()).await;
        assert_eq!(ids(&there), expected);
        backlog.resolve_all(there.iter().map(|entry| entry.id));
        assert_eq!((rig.journal.pending()[sink].events, rig.journal.pending()[sink].bytes), (0, 0));
    }
    rig.close().await;
}

#[tokio::test]
async fn what_damage_took_is_not_counted_when_the_sink_has_come_past_it() {
    let disk = SimFolder::new();
    let rig = open(&disk, &["one", "two"]);
    for at in 0..20 {
        let appended = rig.journal.append(&event(&format!("e{at}"), 300), &rig::destinations(&[0, 1])).await;
        let Ok(Appended::New(commit)) = appended else { panic!("{appended:?}") };
        commit.durable().await.unwrap();
    }
    // The notes behind it count what is damaged then.
    for at in 0..200 {
        rig.accept(&event(&format!("m{at}"), 900), &[1]).await.unwrap();
    }
    rig.close().await;
    let name = "0000000001.segment";
    let mut bytes = disk.bytes(name).unwrap();
    let at = bytes.windows(9).position(|window| window == b"\"id\":\"e7\"").expect("it is there");
    bytes[at] ^= 1;
    disk.put(name, &bytes);
    let rig = open(&disk, &["one", "two"]);
    let mut backlog = rig.journal.backlog(0);
    assert_eq!(rig.journal.pending()[0].events, 20, "nobody knows yet");
    let there = take(&mut backlog, 19).await;
    assert_eq!(rig.journal.damaged(), 1);
    backlog.resolve_all(there[5..].iter().map(|entry| entry.id));
    let healed = async {
        while rig.journal.pending()[0].events != 5 {
            assert!(drain(&mut backlog).await.is_empty());
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, healed).await.expect("the count is put right");
    backlog.resolve_all(there[..5].iter().map(|entry| entry.id));
    assert_eq!((rig.journal.pending()[0].events, rig.journal.pending()[0].bytes), (0, 0));
    assert_eq!(rig.journal.pending()[1].events, 220, "it has not come past it");
    rig.close().await;
}
