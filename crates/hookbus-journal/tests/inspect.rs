//! Looking at a folder, mending it, copying it.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod rig;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use hookbus_journal::{
    DataFolder, DeadLetters, Finding, Folder, InspectError, Journal, Letter, LetterSettings, Repaired,
    Running, Settings, at_rest, backup, check, repair, sim::SimFolder,
};
use rig::{MIB, Rig, SOON, drain, event, ids, key, take};

fn settings() -> Settings {
    Settings { segment_size: 12 << 10, max_size: MIB, ..rig::settings() }
}

/// A folder of several segments that was closed in order: sink `one` has all to get, `two` nothing.
async fn closed(folder: Arc<dyn Folder>) {
    let rig = Rig::open_with(folder, settings(), &rig::sinks(&["one", "two"])).unwrap();
    let mut two = rig.journal.backlog(1);
    for number in 0..40 {
        rig.accept(&event(&format!("e{number:02}"), 600), &[0, 1]).await.unwrap();
        for entry in take(&mut two, 1).await {
            two.resolve(entry.id);
        }
    }
    rig.close().await;
}

fn bytes(disk: &SimFolder) -> BTreeMap<String, Vec<u8>> {
    disk.names().unwrap().into_iter().map(|name| (name.clone(), disk.bytes(&name).unwrap())).collect()
}

fn look(disk: &SimFolder) -> hookbus_journal::Report {
    let before = bytes(disk);
    let report = check(Arc::new(disk.clone()), key()).unwrap();
    assert_eq!(bytes(disk), before, "looking changes nothing");
    report
}

fn change(disk: &SimFolder, name: &str, offset: u64) {
    let file = disk.open(name).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, offset).unwrap();
    file.write_at(&[byte[0] ^ 1], offset).unwrap();
}

#[tokio::test]
async fn a_sound_folder_has_nothing_wrong_and_its_status_is_what_the_journal_says() {
    let disk = SimFolder::new();
    closed(Arc::new(disk.clone())).await;
    let report = look(&disk);
    assert!(report.findings.is_empty(), "{report:?}");
    assert!(report.segments > 2 && report.tables > 1, "{report:?}");
    let before = bytes(&disk);
    let status = at_rest(Arc::new(disk.clone()), key()).unwrap();
    assert_eq!(bytes(&disk), before, "asking changes nothing");
    let rig = Rig::open_with(Arc::new(disk.clone()), settings(), &rig::sinks(&["one", "two"])).unwrap();
    let pending = rig.journal.pending();
    let [one] = &status.pending[..] else { panic!("{status:?}") };
    assert_eq!((&*one.sink, one.events, one.bytes), ("one", 40, pending[0].bytes));
    assert!(one.oldest.is_some());
    assert_eq!((status.damaged, status.segments), (0, report.segments as u64));
    rig.close().await;
}

#[tokio::test]
async fn damage_is_found_and_what_can_be_mended_is() {
    let disk = SimFolder::new();
    closed(Arc::new(disk.clone())).await;
    let segments: Vec<_> = bytes(&disk).into_keys().filter(|name| name.ends_with(".segment")).collect();
    let tables: Vec<_> = bytes(&disk).into_keys().filter(|name| name.ends_with(".ids")).collect();
    let text = b"\"id\":\"e01\",";
    let (damaged, at) = bytes(&disk)
        .into_iter()
        .find_map(|(name, bytes)| Some((name, bytes.windows(text.len()).position(|part| part == text)?)))
        .unwrap();
    change(&disk, &damaged, at as u64);
    // Its header: the segment behind it.
    change(&disk, &segments[1], 70);
    change(&disk, &tables[0], 4096 + 20);
    disk.create("0000000099.ids.new").unwrap();
    disk.create("README").unwrap();
    let number = |name: &str| name[..10].parse::<u64>().unwrap();
    let found = look(&disk).findings;
    let lost = |finding: &Finding| matches!(finding, Finding::Damaged { segment, events: 1, .. } if *segment == number(&damaged));
    assert!(found.iter().any(lost), "{found:?}");
    for expected in [
        Finding::FirstPage { segment: number(&segments[1]) },
        Finding::Table { segment: number(&tables[0]) },
        Finding::Superfluous { file: "0000000099.ids.new".into() },
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
    let before = bytes(&disk);
    let folder: Arc<dyn Folder> = Arc::new(disk.clone());
    let done = repair(&folder, &key(), settings().dedup).unwrap();
    assert!(done.contains(&Repaired::Sealed { segment: number(&segments[1]) }), "{done:?}");
    assert!(done.contains(&Repaired::Table { segment: number(&tables[0]) }), "{done:?}");
    let aside = |done: &&Repaired| matches!(done, Repaired::SetAside { .. });
    assert_eq!(done.iter().filter(aside).count(), 2, "{done:?}");
    for (name, old) in &before {
        if let (true, Some(new)) = (name.ends_with(".segment"), disk.bytes(name)) {
            assert_eq!(old.get(4096..), new.get(4096..), "no record of {name} is touched");
        }
    }
    assert!(disk.bytes("README").is_some(), "what is not ours stays");
    let left = look(&disk).findings;
    assert!(left.iter().all(lost) && left.len() == 1, "{left:?}");
    let rig = Rig::open_with(folder, settings(), &rig::sinks(&["one", "two"])).unwrap();
    let mut expected: Vec<_> = (0..40).map(|number| format!("e{number:02}")).collect();
    expected.remove(1);
    assert_eq!(ids(&drain(&mut rig.journal.backlog(0)).await), expected);
    rig.close().await;
}

#[tokio::test]
async fn a_folder_that_was_left_in_a_crash_is_unsealed_until_it_is_mended() {
    let disk = SimFolder::new();
    let rig = Rig::open_with(Arc::new(disk.clone()), settings(), &rig::sinks(&["one"])).unwrap();
    rig.accept(&event("a", 600), &[0]).await.unwrap();
    let crashed = disk.crash();
    rig.close().await;
    let found = look(&crashed).findings;
    assert!(matches!(found[..], [Finding::Unsealed { segment: 1 }]), "{found:?}");
    let folder: Arc<dyn Folder> = Arc::new(crashed.clone());
    repair(&folder, &key(), settings().dedup).unwrap();
    assert!(look(&crashed).findings.is_empty(), "{:?}", look(&crashed));
}

#[tokio::test]
async fn a_segment_that_is_gone_is_missed() {
    let disk = SimFolder::new();
    closed(Arc::new(disk.clone())).await;
    disk.remove("0000000002.segment").unwrap();
    let found = look(&disk).findings;
    assert!(matches!(found[..], [Finding::Missing { segment: 3, events: 5.. }]), "{found:?}");
}

#[tokio::test]
async fn what_was_settled_is_not_handed_out_again_whatever_happens() {
    let disk = SimFolder::new();
    let rig = Rig::open_with(Arc::new(disk.clone()), settings(), &rig::sinks(&["one"])).unwrap();
    for number in 0..30 {
        rig.accept(&event(&number.to_string(), 600), &[0]).await.unwrap();
    }
    let mut backlog = rig.journal.backlog(0);
    let taken = take(&mut backlog, 29).await;
    backlog.resolve_all(taken.into_iter().map(|entry| entry.id));
    rig.journal.settle(SOON).unwrap();
    let crashed = disk.crash();
    rig.close().await;
    let again = Rig::open_with(Arc::new(crashed), settings(), &rig::sinks(&["one"])).unwrap();
    assert_eq!(ids(&drain(&mut again.journal.backlog(0)).await), ["29"]);
    assert_eq!(again.journal.pending()[0].events, 1);
    again.close().await;
}

#[tokio::test]
async fn what_is_counted_and_lost_is_written_off() {
    let disk = SimFolder::new();
    closed(Arc::new(disk.clone())).await;
    let segments: Vec<_> = bytes(&disk).into_keys().filter(|name| name.ends_with(".segment")).collect();
    disk.remove(&segments[1]).unwrap();
    let rig = Rig::open_with(Arc::new(disk.clone()), settings(), &rig::sinks(&["one", "two"])).unwrap();
    let mut backlog = rig.journal.backlog(0);
    let left = drain(&mut backlog).await;
    assert!(left.len() < 40 && !backlog.is_done());
    assert_eq!(rig.journal.write_off(0), 0, "some are taken");
    backlog.resolve_all(left.iter().map(|entry| entry.id));
    assert!(backlog.is_done());
    assert_eq!(rig.journal.write_off(0), 40 - left.len() as u64);
    rig.close().await;
    let names: Vec<_> =
        at_rest(Arc::new(disk), key()).unwrap().pending.into_iter().map(|one| one.sink).collect();
    assert!(names.is_empty(), "{names:?}");
}

fn open(path: &Path) -> (DataFolder, DeadLetters) {
    let data = DataFolder::open(path).unwrap();
    let (letters, found) =
        DeadLetters::open(data.folder(), data.key().clone(), LetterSettings::default()).unwrap();
    assert_eq!((found.damaged, found.unfinished), (0, 0));
    (data, letters)
}

fn journal(data: &DataFolder) -> Rig {
    Rig::with_key(data.folder(), data.key().clone(), settings(), &rig::sinks(&["one", "two"])).unwrap()
}

/// What a backup holds: events for the first sink, and letters.
async fn contents(path: &Path) -> (Vec<String>, usize) {
    let (data, letters) = open(path);
    let report = check(data.folder(), data.key().clone()).unwrap();
    assert!(report.findings.iter().all(|finding| matches!(finding, Finding::Unsealed { .. })), "{report:?}");
    let rig = journal(&data);
    let events = ids(&drain(&mut rig.journal.backlog(0)).await);
    assert_eq!(rig.journal.damaged(), 0);
    rig.close().await;
    (events, letters.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_journal_opens_with_all_that_was_accepted() {
    let outer = tempfile::tempdir().unwrap();
    let (data, letters) = open(&outer.path().join("data"));
    let rig = journal(&data);
    letters.keep(Letter::new(event("letter", 600), "one".into(), "too-large", "")).await.unwrap();
    for number in 0..30 {
        rig.accept(&event(&format!("a{number:02}"), 600), &[0]).await.unwrap();
    }
    let backing = {
        let (folder, key, to) = (data.folder(), data.key().clone(), outer.path().join("copy"));
        let (journal, letters) = (rig.journal.clone(), letters.clone());
        tokio::task::spawn_blocking(move || {
            let running = Running { journal: Some(&journal), letters: Some(&letters) };
            backup(&folder, &key, running, &to).unwrap()
        })
    };
    // It goes on meanwhile.
    for number in 0..30 {
        rig.accept(&event(&format!("b{number:02}"), 600), &[0]).await.unwrap();
    }
    let done = backing.await.unwrap();
    let report = rig.journal.check().unwrap();
    assert!(report.findings.is_empty() && report.segments > 2, "{report:?}");
    rig.close().await;
    let copy = outer.path().join("copy");
    assert_eq!(done.files, fs::read_dir(&copy).unwrap().count() as u64);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(copy.join("key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (events, kept) = contents(&copy).await;
    let first: Vec<_> = (0..30).map(|number| format!("a{number:02}")).collect();
    assert_eq!((&events[..30], kept), (&first[..], 1));
    let (folder, key) = (data.folder(), data.key().clone());
    let again = backup(&folder, &key, Running::default(), &copy);
    assert!(matches!(again, Err(InspectError::NotEmpty)), "{again:?}");
    backup(&folder, &key, Running::default(), &outer.path().join("rest")).unwrap();
    let (events, kept) = contents(&outer.path().join("rest")).await;
    assert_eq!((events.len(), kept), (60, 1));
}

#[tokio::test]
async fn settling_a_closed_journal_fails_at_once() {
    let rig = Rig::open_with(Arc::new(SimFolder::new()), settings(), &rig::sinks(&["one"])).unwrap();
    let journal: Journal = rig.journal.clone();
    rig.close().await;
    assert!(journal.settle(Duration::from_secs(600)).is_err());
}
