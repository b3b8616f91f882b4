//! The store against a model, against damage and against power cuts.

mod damage;
mod memory_folder;
mod model;

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use hookbus_core::{Address, record::RecordKey};
use hookbus_testkit::TestEvent;

use super::{
    DeadLetters, Letter, LetterSettings, LettersFound, NotKept, NotOpened,
    index::{Index, Segment},
};
use crate::{EntryId, Folder};
use memory_folder::{Failure, Files, MemoryFolder};

const SMALL: LetterSettings = LetterSettings { max_size: 1 << 20, segment_size: 8 << 10 };

fn key() -> RecordKey {
    RecordKey::new(&[7; 32]).unwrap()
}

fn open(folder: &MemoryFolder, settings: LetterSettings) -> (DeadLetters, LettersFound) {
    DeadLetters::open(Arc::new(folder.clone()), key(), settings).unwrap()
}

/// A letter in which everything follows from its number.
fn letter(number: u64) -> Letter {
    let event =
        TestEvent::new("fastpix").id(format!("e{number}")).length(150 + number as usize % 700).build();
    let mut letter = Letter::new(event, "bus".into(), "too-large", &format!("error {number}"));
    letter.address =
        (!number.is_multiple_of(3)).then(|| Address::from_parts([("topic", "t"), ("key", "k")], 1));
    letter.attempts = number as u32;
    letter.given_up = UNIX_EPOCH + Duration::from_secs(number);
    letter.entry = (number.is_multiple_of(2)).then_some(EntryId { sequence: number, destination: 1 });
    letter
}

/// Whether it is that letter, whole.
fn is_letter(found: &Letter, number: u64) -> bool {
    let wanted = letter(number);
    found.event.body() == wanted.event.body()
        && found.event.id() == wanted.event.id()
        && found.event.proof_headers().count() == 1
        && (&found.sink, &found.address, &found.reason) == (&wanted.sink, &wanted.address, &wanted.reason)
        && (&found.error, found.attempts, found.given_up) == (&wanted.error, wanted.attempts, wanted.given_up)
        && found.entry == wanted.entry
}

/// The number a letter was made of.
fn number_of(found: &Letter) -> u64 {
    found.event.id().as_str()[1..].parse().unwrap()
}

/// All ids with the numbers of their letters, each checked.
async fn contents(letters: &DeadLetters) -> Vec<(u64, u64)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let listing = letters.list(after, 3).await.unwrap();
        assert!(listing.unreadable.is_empty());
        for summary in listing.letters {
            let letter = letters.get(summary.id).await.unwrap().unwrap();
            let number = number_of(&letter);
            assert!(is_letter(&letter, number), "letter {number} is not what it was");
            assert_eq!(&*summary.event_id, letter.event.id().as_str());
            all.push((summary.id, number));
        }
        match listing.last {
            Some(last) => after = Some(last),
            None => return all,
        }
    }
}

#[tokio::test]
async fn what_is_kept_is_there_after_a_restart_with_all_that_was_said() {
    let folder = MemoryFolder::default();
    let (letters, found) = open(&folder, SMALL);
    assert_eq!((found, folder.files().len()), (LettersFound::default(), 0), "nothing is made by looking");
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push((letters.keep(letter(number)).await.unwrap(), number));
    }
    assert_eq!(contents(&letters).await, ids);
    assert!(folder.files().len() > 2);
    let (again, found) = open(&folder, SMALL);
    assert_eq!((found.count, found.damaged, found.unfinished), (40, 0, 0));
    assert_eq!(found.bytes, letters.bytes());
    assert_eq!(contents(&again).await, ids);
    assert!(again.contains("bus", EntryId { sequence: 4, destination: 1 }));
    assert!(!again.contains("other", EntryId { sequence: 4, destination: 1 }));
    assert_eq!(again.keep(letter(4)).await.unwrap(), ids[4].0, "it is not stored twice");
    assert_eq!(again.len(), 40);
    assert!(again.keep(letter(5)).await.unwrap() > ids[39].0, "without an entry nothing tells them apart");
}

#[tokio::test]
async fn those_who_wait_together_share_a_group() {
    let folder = MemoryFolder::default();
    let (letters, _) = open(&folder, SMALL);
    let keep = |number| {
        let letters = letters.clone();
        tokio::spawn(async move { letters.keep(letter(number)).await.unwrap() })
    };
    // Two of one entry at once are one letter.
    let waiting = [0, 1, 2, 3, 2].map(keep);
    let mut ids = Vec::new();
    for one in waiting {
        ids.push(one.await.unwrap());
    }
    assert_eq!(ids[2], ids[4]);
    assert_eq!(contents(&letters).await.len(), 4);
}

#[tokio::test]
async fn at_the_quota_nothing_is_kept_until_something_goes() {
    let settings = LetterSettings { max_size: 60_000, segment_size: 8 << 10 };
    let folder = MemoryFolder::default();
    let (letters, _) = open(&folder, settings);
    let (mut ids, mut number) = (Vec::new(), 0);
    let refused = loop {
        match letters.keep(letter(number)).await {
            Ok(id) => ids.push(id),
            Err(refused) => break refused,
        }
        number += 1;
    };
    assert!(matches!(refused, NotKept::Full(60_000)), "{refused}");
    assert!(refused.to_string().contains("max-size"), "{refused}");
    let on_disk = |folder: &MemoryFolder| folder.files().values().map(Vec::len).sum::<usize>();
    let most = 60_000 + 4096;
    assert!(on_disk(&folder) <= most);
    // Every second one: no file is empty, so what is left has to be moved together.
    let removed: Vec<u64> = ids.iter().copied().step_by(2).collect();
    assert_eq!(letters.remove(&removed).await.unwrap(), removed.len());
    assert_eq!(letters.remove(&removed).await.unwrap(), 0);
    for more in 0..removed.len() as u64 / 2 {
        letters.keep(letter(1001 + more * 2)).await.unwrap();
    }
    assert!(on_disk(&folder) <= most, "{}", on_disk(&folder));
    let expected = contents(&letters).await;
    assert_eq!(expected.len(), ids.len() - removed.len() + removed.len() / 2);
    assert_eq!(contents(&open(&folder, settings).0).await, expected);
}

#[tokio::test]
async fn a_file_without_letters_is_removed_and_ids_are_not_used_again() {
    let folder = MemoryFolder::default();
    let (letters, _) = open(&folder, SMALL);
    let mut ids = Vec::new();
    for number in 0..60 {
        ids.push(letters.keep(letter(number)).await.unwrap());
    }
    let before = folder.files().len();
    assert_eq!(letters.remove(&ids).await.unwrap(), 60);
    assert_eq!((letters.len(), letters.bytes()), (0, 0));
    assert!(before > 3 && folder.files().len() == 1, "{before} files, then {}", folder.files().len());
    let (again, found) = open(&folder, SMALL);
    assert_eq!((found.count, found.damaged), (0, 0));
    assert!(again.keep(letter(1)).await.unwrap() > ids[59]);
    assert_eq!(folder.files().len(), 1, "the old newest file is gone");
}

#[tokio::test]
async fn a_full_disk_is_no_end_and_a_failed_fsync_is() {
    let folder = MemoryFolder::default();
    let (letters, _) = open(&folder, SMALL);
    folder.fail(Some(Failure::Write));
    assert!(matches!(letters.keep(letter(1)).await, Err(NotKept::Io(_))));
    folder.fail(None);
    let first = letters.keep(letter(3)).await.unwrap();
    folder.fail(Some(Failure::Write));
    assert!(matches!(letters.keep(letter(5)).await, Err(NotKept::Io(_))));
    assert!(matches!(letters.remove(&[first]).await, Err(NotKept::Io(_))));
    folder.fail(None);
    let second = letters.keep(letter(7)).await.unwrap();
    assert_eq!(contents(&letters).await, [(first, 3), (second, 7)]);
    assert_eq!(contents(&open(&folder, SMALL).0).await, [(first, 3), (second, 7)]);
    assert_eq!(open(&folder, SMALL).1.damaged, 0);
    folder.fail(Some(Failure::Sync));
    assert!(matches!(letters.keep(letter(9)).await, Err(NotKept::Failed(_))));
    folder.fail(None);
    assert!(matches!(letters.keep(letter(11)).await, Err(NotKept::Failed(_))), "never again");
    assert_eq!(letters.len(), 2, "it does not count");
}

#[tokio::test]
async fn where_the_end_cannot_be_read_no_letter_is_let_go_of() {
    let folder = MemoryFolder::default();
    let (letters, _) = open(&folder, SMALL);
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push((letters.keep(letter(number)).await.unwrap(), number));
    }
    let length = folder.files().values().map(Vec::len).max().unwrap();
    assert!(folder.files().len() == 1 && length > 8192, "{length}");
    // All but the last page that anything is in.
    folder.fail(Some(Failure::ReadFrom(length / 4096 * 4096)));
    let refused = DeadLetters::open(Arc::new(folder.clone()), key(), SMALL);
    assert!(matches!(refused, Err(NotOpened::Io { .. })), "{refused:?}");
    folder.fail(None);
    let (letters, found) = open(&folder, SMALL);
    assert_eq!((found.damaged, found.unfinished), (0, 0));
    assert_eq!(contents(&letters).await, ids);
}

#[tokio::test]
async fn files_of_another_key_or_a_newer_version_are_refused() {
    let folder = MemoryFolder::default();
    let (letters, _) = open(&folder, SMALL);
    letters.keep(letter(1)).await.unwrap();
    let other = RecordKey::new(&[8; 32]).unwrap();
    let refused = DeadLetters::open(Arc::new(folder.clone()), other, SMALL);
    assert!(matches!(refused, Err(NotOpened::OtherKey { .. })));
    assert_eq!(folder.names().unwrap().len(), 1);
}

/// A crash while letters were copied on leaves some in two files. A note that one is removed outlives both.
#[test]
fn a_removal_outlives_every_copy_of_its_letter() {
    let folder = MemoryFolder::default();
    let mut index = Index::default();
    for number in 1..=4 {
        let file = folder.create(&number.to_string()).unwrap();
        index.segments.insert(number, Segment::new(file, 4096));
    }
    index.put(10, 1, (4096, 100), None);
    index.put(11, 1, (4196, 100), None);
    index.put(10, 2, (4096, 100), None);
    assert!(index.remove(10, 3));
    assert_eq!(index.unneeded(), Some(2));
    index.forget(2);
    assert_eq!(index.unneeded(), None, "the first file still has a record of it");
    assert!(index.remove(11, 4));
    assert_eq!(index.unneeded(), Some(1));
    index.forget(1);
    assert_eq!(index.unneeded(), Some(3));
}

#[tokio::test]
async fn a_rotten_letter_does_not_keep_the_others_from_making_room() {
    let folder = MemoryFolder::default();
    let settings = LetterSettings { max_size: 48 << 10, segment_size: 8 << 10 };
    let (letters, _) = open(&folder, settings);
    let mut ids = Vec::new();
    while letters.size_on_disk() < (40 << 10) {
        ids.push(letters.keep(letter(ids.len() as u64)).await.unwrap());
    }
    let name = "letters-0000000001.segment";
    let bytes = &folder.files()[name];
    let at = bytes.windows(9).position(|window| window == b"\"id\":\"e1\"").expect("it is there");
    folder.open(name).unwrap().write_at(&[bytes[at] ^ 1], at as u64).unwrap();
    // Half of the others go: the first file is worth moving.
    let gone: Vec<_> = ids.iter().copied().filter(|id| id % 2 == 1 && *id != ids[1]).collect();
    letters.remove(&gone).await.unwrap();
    for number in 1000..1012 {
        letters.keep(letter(number)).await.unwrap();
    }
    assert_eq!(letters.lost(), 1);
    assert!(letters.get(ids[1]).await.unwrap().is_none());
}
