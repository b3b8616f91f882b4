//! A journal that holds a lot: how soon a bridge is ready with it, and that memory does not grow with what went
//! through.

use std::{fs, path::Path, sync::Arc, time::Duration};

use hookbus_brokers::{Kind, Options};
use hookbus_tests::load::{self, Events, Report, Settings, Shape};
use rustix::fs::{Advice, fadvise};
use tokio::{task::spawn_blocking, time::Instant};

use super::stage::{Stage, durable};
use crate::{
    corpus,
    support::{Ack, Bridge, PATIENCE, Provider, alone, held, number_of, say},
};

/// Events prepared at a time; 1.5 kB of memory each.
const BATCH: u64 = 250_000;
/// About what the journal keeps of each.
const BYTES: u64 = 1400;
/// As long as a batch may take.
const LONG: Duration = Duration::from_secs(600);
/// A backlog up to this, in MiB, fits into a Redis: larger ones are not delivered at the end.
const DELIVERABLE: u64 = 256;
/// Where the journal of a bridge is, in its folder.
const JOURNAL: &str = "journal";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_with_a_large_backlog_is_ready_soon() {
    if !Ack::is_journal("faults::backlog::ready") {
        return;
    }
    let _alone = alone().await;
    let mib = number_of("HOOKBUS_TEST_MIB", 8);
    let Some(mut stage) = Stage::start(Kind::Redis, durable(Kind::Redis)).await else { return };
    stage.kill().await;
    let mut bridge = Bridge::start_with(&config(&stage, "", 2 * mib + 256)).await;
    let begun = Instant::now();
    // By what was sent: segments are on the disk before anything is in them.
    let (mut accepted, events) = (0, (mib << 20) / BYTES);
    while accepted < events {
        accepted += send(&bridge, accepted, BATCH.min(events - accepted)).await.requests;
    }
    let filled = begun.elapsed();
    say(&format!(
        "backlog: {accepted} events, {} MiB of journal, written in {:.0} s; RSS {} MiB, at most {} MiB\n\
         | ended by | page cache | listening after ms | first 200 after ms | RSS MiB |\n|---|---|---|---|---|",
        size(&bridge.path(JOURNAL)) >> 20,
        filled.as_secs_f64(),
        held(&bridge).0,
        held(&bridge).1,
    ));
    for (way, kill, cold) in [("kill -9", true, true), ("kill -9", true, false), ("SIGTERM", false, false)] {
        if kill {
            bridge.kill().await;
        } else {
            bridge.stop().await;
        }
        if cold {
            forget(&bridge.path(JOURNAL));
        }
        let started = Instant::now();
        bridge.start_again();
        bridge.listens().await;
        let listening = started.elapsed();
        // No event of the load generator has such an id.
        let body = corpus::video(&format!("00000000-0000-4000-8000-{accepted:012}"), "m");
        let answer = bridge.connect().await.ask(&Provider::FastPix.request(&body)).await;
        assert_eq!(answer.taken(), "accepted");
        accepted += 1;
        let [listening, answered] = [listening, started.elapsed()].map(|time| time.as_millis());
        let cache = if cold { "dropped" } else { "as it was" };
        say(&format!("| {way} | {cache} | {listening} | {answered} | {} |", held(&bridge).0));
    }
    if mib > DELIVERABLE {
        return;
    }
    stage.restart().await;
    let there = Instant::now();
    let late = there + PATIENCE;
    while stage.count("good").await < accepted {
        assert!(Instant::now() < late, "{} of {accepted} arrived", stage.count("good").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    say(&format!("backlog: delivered to Redis in {:.1} s", there.elapsed().as_secs_f64()));
    bridge.stop().await;
    assert_eq!(stage.count("good").await, accepted, "nobody was killed while it was delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_events() {
    if !Ack::is_journal("faults::backlog::memory") {
        return;
    }
    /// What may come and go: queues, batches, and what the allocator keeps.
    const MAY_GROW: u64 = 64;
    let _alone = alone().await;
    let events = number_of("HOOKBUS_TEST_EVENTS", 8_000);
    let batch = (events / 8).clamp(1, BATCH);
    // Not what Redis costs is measured.
    let Some(stage) = Stage::start(Kind::Redis, Options::default()).await else { return };
    let mut bridge = Bridge::start_with(&config(&stage, "max-len = 10_000", 1024)).await;
    say("| events | seconds | RSS MiB | at most MiB | journal MiB |\n|---|---|---|---|---|");
    let (begun, mut sent, mut first) = (Instant::now(), 0, None);
    while sent < events {
        let report = send(&bridge, sent, batch).await;
        sent += report.requests;
        let (now, most) = held(&bridge);
        first.get_or_insert(most);
        let journal = size(&bridge.path(JOURNAL)) >> 20;
        say(&format!("| {sent} | {:.0} | {now} | {most} | {journal} |", begun.elapsed().as_secs_f64()));
    }
    let (first, most) = (first.unwrap(), held(&bridge).1);
    assert!(most <= first + MAY_GROW, "it grew from {first} MiB to {most} MiB");
    bridge.stop().await;
}

fn config(stage: &Stage, keys: &str, mib: u64) -> String {
    let (sink, to) = (stage.sink("bus", keys), stage.to("good"));
    format!(
        r#"[server]
listen = "127.0.0.1:0"
limits = {{ connections-per-address = 1024 }}
[journal]
dir = "{JOURNAL}"
max-size = "{mib}MiB"
[sources.fastpix]
provider = "fastpix"
secrets = [{{ file = "fastpix.secret" }}]
ack = "{}"
{sink}
max-pending = "{mib}MiB"
[[routes]]
name = "all"
to = [{{ sink = "bus", {to} }}]
"#,
        Ack::usual()
    )
}

/// Sends the next so many events as fast as they are answered, all 200.
async fn send(bridge: &Bridge, first: u64, count: u64) -> Report {
    let target = bridge.address();
    let sending = spawn_blocking(move || {
        let (host, secret) = (target.to_string(), Provider::FastPix.secret());
        let shape = Shape { host: &host, path: "/hooks/fastpix", secret: &secret };
        let events = Arc::new(Events::range(first..first + count, shape)?);
        let (connections, threads, count) = (64, 1, Some(count));
        let settings = Settings { target, connections, threads, duration: LONG, count, per_second: None };
        load::run(&settings, &events)
    });
    let report = sending.await.unwrap().unwrap();
    let all_taken = report.statuses.get(&200) == Some(&count) && report.errors.is_empty();
    assert!(all_taken, "not all were answered 200: {:?} {:?}", report.statuses, report.errors);
    report
}

/// The bytes that the files of a folder take on the disk.
fn size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    files(folder).iter().filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Lets the system forget what it remembers of these files: as after a start of the machine.
fn forget(folder: &Path) {
    for path in files(folder) {
        let Ok(file) = fs::File::open(&path) else { continue };
        // Only what is on the disk is forgotten.
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
}

/// All files below a folder, those that go away meanwhile aside.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}
