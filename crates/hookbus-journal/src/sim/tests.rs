//! The disk does what it says.

use std::{collections::BTreeSet, io};

use proptest::prelude::*;

use super::{Failure, Operation, SimFolder, content::SECTOR};
use crate::Folder;

/// What a file may hold after a cut; nothing where it has no name.
fn outcomes(folder: &SimFolder, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..500).map(|seed| folder.power_cut(seed).bytes(name)).collect()
}

fn with_file(bytes: &[u8]) -> SimFolder {
    let folder = SimFolder::new();
    folder.put("f", bytes);
    folder
}

/// One byte for each sector.
fn sectors(values: &[u8]) -> Vec<u8> {
    values.iter().flat_map(|value| [*value; SECTOR]).collect()
}

fn some(of: &[&[u8]]) -> BTreeSet<Option<Vec<u8>>> {
    of.iter().map(|values| Some(sectors(values))).collect()
}

#[test]
fn what_was_synced_stays() {
    let folder = SimFolder::new();
    let file = folder.create("f").unwrap();
    file.write_at(&sectors(&[1, 2]), 0).unwrap();
    file.sync().unwrap();
    folder.sync().unwrap();
    assert_eq!(outcomes(&folder, "f"), some(&[&[1, 2]]));
}

#[test]
fn sectors_reach_the_disk_each_on_its_own() {
    let folder = with_file(&sectors(&[1, 1]));
    folder.open("f").unwrap().write_at(&sectors(&[2, 2]), 0).unwrap();
    assert_eq!(outcomes(&folder, "f"), some(&[&[1, 1], &[1, 2], &[2, 1], &[2, 2]]));
}

#[test]
fn of_writes_to_one_sector_the_first_few_happened() {
    let folder = with_file(&[0; 3]);
    let file = folder.open("f").unwrap();
    for at in 0..3 {
        file.write_at(&[7], at).unwrap();
    }
    let expected = [[0, 0, 0], [7, 0, 0], [7, 7, 0], [7, 7, 7]];
    assert_eq!(outcomes(&folder, "f"), expected.into_iter().map(|bytes| Some(bytes.to_vec())).collect());
}

#[test]
fn growth_may_be_gone_or_zeros() {
    let folder = with_file(&sectors(&[1]));
    folder.open("f").unwrap().write_at(&sectors(&[2, 3]), SECTOR as u64).unwrap();
    let expected: &[&[u8]] = &[&[1], &[1, 2], &[1, 0], &[1, 2, 3], &[1, 0, 3], &[1, 2, 0], &[1, 0, 0]];
    assert_eq!(outcomes(&folder, "f"), some(expected));
}

#[test]
fn a_length_that_ends_within_a_sector_is_kept() {
    let folder = with_file(&[1; 100]);
    let file = folder.open("f").unwrap();
    file.write_at(&[2; 500], 100).unwrap();
    let lengths: BTreeSet<_> =
        outcomes(&folder, "f").into_iter().flatten().map(|bytes| bytes.len()).collect();
    assert_eq!(lengths, BTreeSet::from([100, 512, 600]));
    file.sync().unwrap();
    assert_eq!(outcomes(&folder, "f"), BTreeSet::from([Some([[1; 100].as_slice(), &[2; 500]].concat())]));
}

#[test]
fn a_rename_happens_as_a_whole() {
    let folder = with_file(b"old");
    folder.put("new", b"new");
    folder.rename("new", "f").unwrap();
    let seen: BTreeSet<_> =
        (0..200).map(|seed| folder.power_cut(seed)).map(|cut| (cut.bytes("f"), cut.bytes("new"))).collect();
    let before = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    assert_eq!(seen, BTreeSet::from([before, (Some(b"new".to_vec()), None)]));
    folder.sync().unwrap();
    assert_eq!(outcomes(&folder, "f"), BTreeSet::from([Some(b"new".to_vec())]));
}

#[test]
fn new_names_and_removed_ones_are_uncertain_until_the_folder_is_synced() {
    let folder = with_file(b"there");
    folder.create("g").unwrap().sync().unwrap();
    folder.remove("f").unwrap();
    assert_eq!(folder.names().unwrap(), ["g"]);
    let seen: BTreeSet<_> = (0..200).map(|seed| folder.power_cut(seed).names().unwrap()).collect();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(seen, BTreeSet::from([names(&[]), names(&["f"]), names(&["g"]), names(&["f", "g"])]));
    folder.sync().unwrap();
    assert_eq!(folder.power_cut(1).names().unwrap(), ["g"]);
}

#[test]
fn what_a_failed_sync_left_uncertain_stays_so() {
    let folder = with_file(&sectors(&[1, 1, 1]));
    folder.fail(Failure::new(Operation::Sync, io::ErrorKind::Other).times(1));
    let file = folder.open("f").unwrap();
    file.write_at(&sectors(&[2, 2]), 0).unwrap();
    file.sync().unwrap_err();
    // The second sector is written again, the third for the first time.
    file.write_at(&sectors(&[3, 3]), SECTOR as u64).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&folder, "f"), some(&[&[1, 3, 3], &[2, 3, 3]]));
}

#[test]
fn growth_of_a_failed_sync_stays_uncertain() {
    let folder = with_file(&sectors(&[1]));
    folder.fail(Failure::new(Operation::Sync, io::ErrorKind::Other).times(1));
    let file = folder.open("f").unwrap();
    file.write_at(&sectors(&[2]), SECTOR as u64).unwrap();
    file.sync().unwrap_err();
    // Written again and synced, it does not grow again.
    file.write_at(&sectors(&[3]), SECTOR as u64).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&folder, "f"), some(&[&[1], &[1, 3]]));
}

#[test]
fn names_of_a_failed_sync_stay_uncertain() {
    let folder = SimFolder::new();
    folder.fail(Failure::new(Operation::SyncFolder, io::ErrorKind::Other).times(1));
    folder.create("f").unwrap();
    folder.sync().unwrap_err();
    folder.create("g").unwrap();
    folder.sync().unwrap();
    let seen: BTreeSet<_> = (0..200).map(|seed| folder.power_cut(seed).names().unwrap()).collect();
    assert_eq!(seen, BTreeSet::from([vec!["f".to_owned(), "g".into()], vec!["g".into()]]));
}

#[test]
fn a_crash_loses_nothing_and_makes_nothing_safe() {
    let folder = with_file(&sectors(&[1]));
    folder.open("f").unwrap().write_at(&sectors(&[2]), 0).unwrap();
    folder.create("g").unwrap();
    let crashed = folder.crash();
    assert_eq!(crashed.bytes("f"), Some(sectors(&[2])));
    assert_eq!(crashed.names().unwrap(), ["f", "g"]);
    assert_eq!(outcomes(&crashed, "f"), some(&[&[1], &[2]]));
    // They share nothing.
    crashed.open("f").unwrap().write_at(&sectors(&[3]), 0).unwrap();
    assert_eq!(folder.bytes("f"), Some(sectors(&[2])));
}

#[test]
fn failures_strike_what_they_are_told_to() {
    let folder = with_file(b"....");
    let file = folder.open("f").unwrap();
    folder.fail(Failure::new(Operation::Write, io::ErrorKind::StorageFull).of("f").after(1).short(2));
    folder.fail(Failure::new(Operation::Create, io::ErrorKind::ReadOnlyFilesystem));
    file.write_at(b"a", 0).unwrap();
    for _ in 0..3 {
        assert_eq!(file.write_at(b"bcd", 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(folder.bytes("f").unwrap(), b"abc.");
    assert_eq!(folder.create("g").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    file.sync().unwrap();
    folder.heal();
    file.write_at(b"BCD", 1).unwrap();
    folder.create("g").unwrap().write_at(b"!", 0).unwrap();
    assert_eq!(folder.bytes("f").unwrap(), b"aBCD");
    assert_eq!((folder.counts().writes, folder.counts().syncs), (6, 1));
}

#[test]
fn a_file_without_a_name_can_still_be_read() {
    let folder = with_file(b"there");
    let file = folder.open("f").unwrap();
    folder.remove("f").unwrap();
    folder.sync().unwrap();
    let mut bytes = [0; 8];
    assert_eq!(file.read_at(&mut bytes, 1).unwrap(), 4);
    assert_eq!(&bytes[..4], b"here");
    assert_eq!(folder.open("f").unwrap_err().kind(), io::ErrorKind::NotFound);
}

proptest! {
    /// Without a cut it is a file like any other.
    #[test]
    fn reads_what_was_written(writes in prop::collection::vec((0u64..3000, prop::collection::vec(any::<u8>(), 0..1500), any::<bool>()), 1..20), from in 0u64..4000) {
        let folder = SimFolder::new();
        let file = folder.create("f").unwrap();
        let mut expected = Vec::new();
        for (offset, bytes, sync) in writes {
            file.write_at(&bytes, offset).unwrap();
            let (start, end) = (offset as usize, offset as usize + bytes.len());
            if !bytes.is_empty() {
                expected.resize(expected.len().max(end), 0);
                expected[start..end].copy_from_slice(&bytes);
            }
            if sync {
                file.sync().unwrap();
            }
        }
        prop_assert_eq!(folder.bytes("f").unwrap(), &expected[..]);
        let mut buffer = [0; 700];
        let read = file.read_at(&mut buffer, from).unwrap();
        prop_assert_eq!(&buffer[..read], expected.iter().copied().skip(from as usize).take(700).collect::<Vec<_>>());
        // Nothing comes out of a cut that was not there before it.
        file.sync().unwrap();
        folder.sync().unwrap();
        prop_assert_eq!(folder.power_cut(from).bytes("f").unwrap(), expected);
    }
}
