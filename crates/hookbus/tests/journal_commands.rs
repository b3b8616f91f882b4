//! The commands on the journal, by the real program: on a folder at rest and through a running bridge.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use hookbus::{
    Bridge, Config, ConfigText,
    core::{Address, SinkRegistry},
};
use hookbus_journal::{
    Appended, DataFolder, DeadLetters, Destination, Journal, LetterSettings, Room, Settings, SinkSettings,
    dedup,
};
use hookbus_testkit::TestEvent;
use serde_json::Value;

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"

[journal]
dir = "data"
segment-size = "1MiB"
max-size = "64MiB"

[sources.fastpix]
provider = "fastpix"
secrets = [{ file = "fastpix.secret" }]

[sinks.archive]
type = "file"
dir = "events"

[sinks.memory]
type = "memory"

[[routes]]
name = "all"
to = [{ sink = "archive", path = "all.ndjson" }]
"#;

fn hookbus(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbus"));
    command
        .current_dir(folder)
        .args(args)
        .env_remove("HOOKBUS_CONFIG")
        .env_remove("HOOKBUS_LOG")
        .output()
        .unwrap()
}

/// Its exit code, and what it says on stdout and stderr.
fn said(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = hookbus(folder, args);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A folder with a configuration.
fn configured() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hookbus.toml"), CONFIG).unwrap();
    fs::write(folder.path().join("fastpix.secret"), "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA==")
        .unwrap();
    folder
}

/// Does something with the journal of a data folder.
async fn with_journal<T>(data: &Path, sinks: &[&str], work: impl AsyncFnOnce(&Journal) -> T) -> T {
    let data = DataFolder::open(data).unwrap();
    let settings = Settings {
        segment_size: 1 << 20,
        max_size: 64 << 20,
        retention: Duration::from_secs(3600),
        dedup: dedup::Settings { window: Duration::from_secs(3600), max_size: 1 << 20 },
        observer: None,
    };
    let sink = |name: &&str| SinkSettings { name: Arc::from(*name), max_pending: 32 << 20 };
    let sinks: Vec<_> = sinks.iter().map(sink).collect();
    let (journal, threads) = Journal::open(data.folder(), data.key().clone(), settings, &sinks).unwrap();
    let tells = journal.clone();
    let telling = tokio::spawn(async move { tells.tell().await });
    let done = work(&journal).await;
    tokio::task::spawn_blocking(move || threads.join()).await.unwrap();
    telling.await.unwrap();
    done
}

/// Accepts so many events for the only sink of this name.
async fn accept(data: &Path, sink: &str, count: usize) {
    with_journal(data, &[sink], async |journal| {
        for number in 0..count {
            let event = TestEvent::new("fastpix").id(format!("e{number}")).length(600).build();
            let address = Address::from_parts([("path", "all.ndjson")], 1);
            let Appended::New(commit) =
                journal.append(&event, &[Destination { sink: 0, address }]).await.unwrap()
            else {
                panic!("accepted before")
            };
            commit.durable().await.unwrap();
        }
    })
    .await;
}

/// The ids and paths of what the only sink of this name has to get.
async fn pending(data: &Path, sink: &str) -> Vec<(String, String)> {
    with_journal(data, &[sink], async |journal| {
        let mut backlog = journal.backlog(0);
        let mut entries = Vec::new();
        while journal.pending()[0].events > entries.len() as u64 {
            entries.extend(backlog.take(Room { events: 100, bytes: 1 << 20 }).await.unwrap());
        }
        let told = entries
            .iter()
            .map(|entry| (entry.event.id().to_string(), entry.address.get("path").unwrap().to_owned()));
        told.collect()
    })
    .await
}

async fn letters(data: &Path) -> Vec<(String, String, String)> {
    let data = DataFolder::open(data).unwrap();
    let settings = LetterSettings::default();
    let (letters, _) = DeadLetters::open(data.folder(), data.key().clone(), settings).unwrap();
    let listed = letters.list(None, 100).await.unwrap().letters;
    let told = listed
        .iter()
        .map(|letter| (letter.event_id.to_string(), letter.sink.to_string(), letter.reason.to_string()));
    told.collect()
}

fn expected(count: usize) -> Vec<(String, String)> {
    (0..count).map(|number| (format!("e{number}"), "all.ndjson".to_owned())).collect()
}

#[tokio::test]
async fn a_folder_at_rest_is_looked_at_mended_and_copied() {
    let folder = configured();
    let (code, out, err) = said(folder.path(), &["journal", "check"]);
    assert!(code == 0 && err.contains("there is no data folder"), "{code} {out} {err}");
    let data = folder.path().join("data");
    assert!(!data.exists(), "nothing is made by asking");
    accept(&data, "archive", 3).await;
    let (code, out, err) = said(folder.path(), &["journal", "status", "--json"]);
    assert_eq!(code, 0, "{err}");
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&status["state"], &status["sinks"][0]["pending_events"]),
        (&"closed".into(), &3.into()),
        "{out}"
    );
    assert!(status["sinks"][0]["oldest_seconds"].is_u64(), "{out}");
    assert!(said(folder.path(), &["journal", "status"]).1.contains("archive\t3\t"));
    let (code, out, err) = said(folder.path(), &["journal", "check"]);
    assert!(code == 0 && err.contains("sound"), "{out} {err}");
    // The header of the first segment.
    let segment = data.join("0000000001.segment");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[80] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (code, out, _) = said(folder.path(), &["journal", "check"]);
    assert!(code == 1 && out.contains("segment 1: its first page is damaged"), "{out}");
    let (code, out, err) = said(folder.path(), &["journal", "repair"]);
    assert!(code == 0 && out.contains("segment 1: its first page was written anew"), "{out} {err}");
    assert_eq!(said(folder.path(), &["journal", "check"]).0, 0);
    let (code, _, err) = said(folder.path(), &["journal", "backup", "copy"]);
    assert!(code == 0 && err.contains("the key among them"), "{err}");
    assert_eq!(pending(&folder.path().join("copy"), "archive").await, expected(3));
    let (code, _, err) = said(folder.path(), &["journal", "backup", "copy"]);
    assert!(code == 1 && err.contains("not empty"), "{err}");
    let held = DataFolder::open(&data).unwrap();
    assert_eq!(said(folder.path(), &["journal", "repair"]).0, 4);
    assert_eq!(said(folder.path(), &["sinks", "retire", "archive", "--dead-letter"]).0, 4);
    drop(held);
}

#[tokio::test]
async fn a_retired_sink_leaves_what_it_has_to_another_one() {
    let folder = configured();
    let data = folder.path().join("data");
    let retire = |args: &[&str]| said(folder.path(), &[&["sinks", "retire"], args].concat());
    accept(&data, "old", 5).await;
    for (args, part) in [
        (&["old", "--to", "nobody"][..], "there is no sink `nobody`"),
        (&["old", "--to", "old"], "take over from itself"),
        (&["old", "--to", "memory"], "no address key `path`"),
        (&["other", "--to", "archive"], "nothing for a sink `other`"),
    ] {
        let (code, _, err) = retire(args);
        assert!(code == 1 && err.contains(part), "{args:?}: {err}");
    }
    assert_eq!(retire(&["old"]).0, 2, "where to?");
    let (code, out, err) = retire(&["old", "--to", "archive"]);
    assert!(code == 0 && out.contains("5 events"), "{out} {err}");
    assert_eq!(pending(&data, "archive").await, expected(5));
    assert_eq!(retire(&["old", "--to", "archive"]).0, 1, "it is gone");
}

#[tokio::test]
async fn retiring_that_was_ended_half_way_goes_on_and_doubles_nothing() {
    let folder = configured();
    let data = folder.path().join("data");
    accept(&data, "old", 5).await;
    // As far as one was that had appended two of them, and noted nothing.
    accept(&data, "archive", 2).await;
    let (code, out, err) = said(folder.path(), &["sinks", "retire", "old", "--to", "archive"]);
    assert!(code == 0 && out.contains("5 events") && err.contains("2 of them"), "{out} {err}");
    assert_eq!(pending(&data, "archive").await, expected(5));
}

#[tokio::test]
async fn a_retired_sink_leaves_dead_letters_that_are_redriven_without_a_bridge() {
    let folder = configured();
    let data = folder.path().join("data");
    accept(&data, "archive", 4).await;
    let (code, out, err) = said(folder.path(), &["sinks", "retire", "archive", "--dead-letter", "--json"]);
    assert_eq!(code, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["moved"], &told["lost"]), (&4.into(), &0.into()));
    assert_eq!(pending(&data, "archive").await, []);
    let kept = letters(&data).await;
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|(_, sink, reason)| sink == "archive" && reason == "retired"), "{kept:?}");
    let (code, _, err) = said(folder.path(), &["dead-letters", "redrive", "--all"]);
    assert!(code == 0 && err.contains("4 redriven"), "{err}");
    assert!(letters(&data).await.is_empty());
    let mut again = pending(&data, "archive").await;
    again.sort();
    assert_eq!(again, expected(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_bridge_answers_for_its_journal() {
    let folder = configured();
    let data = folder.path().join("data");
    accept(&data, "archive", 3).await;
    let mut registry = SinkRegistry::new();
    hookbus::sinks::register_builtin(&mut registry).unwrap();
    let (config, _) =
        Config::parse(&ConfigText::read(&folder.path().join("hookbus.toml")).unwrap(), &registry).unwrap();
    let bridge = Bridge::start(config).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(bridge.serve(async {
        let _ = stopped.await;
    }));
    let path = folder.path().to_owned();
    tokio::task::spawn_blocking(move || {
        let (code, out, err) = said(&path, &["journal", "status", "--json"]);
        assert_eq!(code, 0, "{err}");
        let status: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(status["state"], "ready", "{out}");
        assert!(status["dedup_seconds"].is_u64(), "{out}");
        let (code, out, err) = said(&path, &["journal", "check"]);
        assert!(code == 0 && err.contains("sound"), "{out} {err}");
        let (code, _, err) = said(&path, &["journal", "backup", "copy"]);
        assert!(code == 0 && path.join("copy/key").exists(), "{err}");
        let (code, _, err) = said(&path, &["journal", "repair"]);
        assert!(code == 4 && err.contains("stop the bridge first"), "{err}");
        let (code, _, err) = said(&path, &["sinks", "retire", "archive", "--to", "memory"]);
        assert!(code == 4 && err.contains("stop the bridge first"), "{err}");
    })
    .await
    .unwrap();
    stop.send(()).unwrap();
    assert!(!serving.await.unwrap().journal_failed);
    assert_eq!(said(folder.path(), &["journal", "check"]).0, 0, "it was closed in order");
}
