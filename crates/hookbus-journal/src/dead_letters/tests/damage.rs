//! Every byte of a small store changed, and every length of it: nothing wrong comes out, and what is lost is counted.

use super::*;

/// Some files with letters and removals, and what is in them.
async fn small_store() -> (Files, Vec<(u64, u64)>, Vec<(u64, u64)>) {
    let settings = LetterSettings { max_size: 1 << 20, segment_size: 5 << 10 };
    let folder = MemoryFolder::default();
    let (letters, _) = open(&folder, settings);
    let mut kept = Vec::new();
    for number in [0, 1, 2, 3, 4, 5] {
        kept.push((letters.keep(letter(number)).await.unwrap(), number));
    }
    letters.remove(&[kept[1].0]).await.unwrap();
    let there = contents(&letters).await;
    assert_eq!(there.len(), 5);
    (folder.files(), kept, there)
}

/// Opens what is left and says which letters come out, after making sure that each is one of those.
async fn survivors(files: &Files, kept: &[(u64, u64)]) -> Option<(Vec<(u64, u64)>, LettersFound)> {
    let folder = MemoryFolder::with(files);
    match DeadLetters::open(Arc::new(folder), key(), SMALL) {
        Ok((letters, found)) => {
            let there = contents(&letters).await;
            assert!(there.iter().all(|letter| kept.contains(letter)), "a letter that never was: {there:?}");
            Some((there, found))
        }
        Err(_) => None,
    }
}

#[tokio::test]
async fn every_flipped_byte_is_noticed_or_does_no_harm() {
    let (files, kept, there) = small_store().await;
    assert!(files.len() > 2, "{} files", files.len());
    for (name, bytes) in &files {
        // Of the first page beyond what is written any byte is as good as another.
        for at in (0..bytes.len()).filter(|at| *at < 80 || *at > 4090) {
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[at] ^= 0x41;
            let context = format!("{name} at {at}");
            let (left, found) = survivors(&damaged, &kept).await.expect(&context);
            let noticed = found.damaged > 0 || found.unfinished > 0;
            assert!(left == there || noticed, "{context}: {left:?} {found:?}");
            let lost = there.iter().filter(|letter| !left.contains(letter)).count();
            assert!(lost <= 1, "{context}: one byte has cost {lost} letters");
        }
    }
}

#[tokio::test]
async fn every_truncation_is_noticed_but_one_that_looks_like_a_crash() {
    let (files, kept, there) = small_store().await;
    let newest = files.keys().next_back().unwrap();
    for (name, bytes) in &files {
        for length in 0..bytes.len() {
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap().truncate(length);
            let context = format!("{name} cut to {length} of {}", bytes.len());
            let (left, found) = survivors(&damaged, &kept).await.expect(&context);
            if name == newest {
                let whole = |(_, number): &&(u64, u64)| there.iter().any(|(_, other)| other == number);
                assert!(left.iter().filter(whole).count() <= there.len(), "{context}");
            } else {
                assert!(left == there || found.damaged > 0, "{context}: {left:?} {found:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_missing_whole_is_noticed_where_a_later_file_tells() {
    let (files, kept, there) = small_store().await;
    for name in files.keys() {
        let mut damaged = files.clone();
        damaged.remove(name);
        let (left, _) = survivors(&damaged, &kept).await.unwrap();
        assert!(left.len() <= there.len() + 1);
    }
}

#[tokio::test]
async fn letters_behind_the_damage_are_still_there_and_can_be_removed() {
    let (mut files, kept, there) = small_store().await;
    let bytes = files.values_mut().next().unwrap();
    bytes[4096 + 60] ^= 1;
    let folder = MemoryFolder::with(&files);
    let (letters, found) = open(&folder, SMALL);
    assert_eq!(found.damaged, 1);
    assert_eq!(contents(&letters).await, there[1..]);
    let ids: Vec<u64> = kept.iter().map(|(id, _)| *id).collect();
    assert_eq!(letters.remove(&ids).await.unwrap(), there.len() - 1);
    let (again, found) = open(&folder, SMALL);
    assert_eq!((again.len(), found.damaged), (0, 0), "the damaged file went with its last letter");
}
