//! Files that are not as they were written.

use super::*;
use crate::RealFolder;

const NAME: &str = "0000000001.ids";
const EVENTS: u32 = 300;

fn file() -> Vec<u8> {
    let folder = SimFolder::new();
    let (mut dedup, _) = open(&folder, ROOMY, START);
    note(&mut dedup, 0..EVENTS, START);
    finish(&mut dedup, 1, START);
    folder.bytes(NAME).unwrap()
}

fn with(name: &str, bytes: &[u8]) -> (Dedup, Vec<u64>) {
    let folder = SimFolder::new();
    folder.put(name, bytes);
    open(&folder, ROOMY, START)
}

#[test]
fn every_flipped_byte_is_found_and_none_makes_a_wrong_answer() {
    let original = file();
    let entries = format::PAGE..format::PAGE * 4;
    let mut order: Vec<_> = (0..EVENTS).collect();
    order.sort_unstable_by_key(|number| identity(*number));
    for place in 0..original.len() {
        let mut bytes = original.clone();
        bytes[place] ^= 1 << (place % 8);
        let (dedup, damaged) = with(NAME, &bytes);
        if !entries.contains(&place) {
            assert_eq!((damaged, dedup.len()), (vec![1], 0), "{place}");
            continue;
        }
        assert!(damaged.is_empty(), "{place}");
        assert!(!dedup.files().list[0].check().unwrap(), "{place}");
        // Those of the page are not found, unless by chance their page is not needed; the others are.
        let page = (place - entries.start) / format::PAGE;
        let within = ((place - entries.start) % format::PAGE / format::ENTRY).min(format::PER_PAGE - 1);
        let hit = (page * format::PER_PAGE + within).min(order.len() - 1);
        assert!(!knows(&dedup, order[hit], START), "{place}");
        let elsewhere = order[(hit + 150) % order.len()];
        assert!(knows(&dedup, elsewhere, START), "{place}");
    }
}

#[test]
fn a_search_that_meets_damage_says_so() {
    let mut bytes = file();
    // A destination of the first entry.
    bytes[format::PAGE + 16] ^= 1;
    let (dedup, _) = with(NAME, &bytes);
    assert_eq!(dedup.damaged().count(), 0);
    assert_eq!((0..EVENTS).filter(|number| knows(&dedup, *number, START)).count(), 300 - 127);
    assert_eq!(dedup.damaged().collect::<Vec<_>>(), [1]);
}

#[test]
fn every_truncation_is_found() {
    let original = file();
    for length in 0..original.len() {
        let (dedup, damaged) = with(NAME, &original[..length]);
        assert_eq!((damaged, dedup.len()), (vec![1], 0), "{length}");
    }
    let longer = [&original[..], &[0]].concat();
    assert_eq!(with(NAME, &longer).1, [1]);
    assert!(with(NAME, &original).1.is_empty());
}

#[test]
fn a_file_that_shrinks_while_it_is_open_has_nothing() {
    let path = tempfile::tempdir().unwrap();
    let folder = Arc::new(RealFolder::open(path.path()).unwrap());
    std::fs::write(path.path().join(NAME), file()).unwrap();
    let settings = Settings { window: Duration::from_secs(WINDOW.into()), max_size: ROOMY };
    let (dedup, _) = Dedup::open(folder, &key(), settings, at(START)).unwrap();
    assert!((0..EVENTS).all(|number| knows(&dedup, number, START)));
    std::fs::File::options().write(true).open(path.path().join(NAME)).unwrap().set_len(5_000).unwrap();
    assert!((0..EVENTS).all(|number| !knows(&dedup, number, START)));
    assert_eq!(dedup.damaged().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_file_of_another_segment_or_key_or_version_is_left_out() {
    let bytes = file();
    assert_eq!(with("0000000002.ids", &bytes).1, [2]);
    let folder = SimFolder::new();
    folder.put(NAME, &bytes);
    folder.put("2.ids", b"no name of ours");
    let settings = Settings { window: Duration::from_secs(WINDOW.into()), max_size: ROOMY };
    let other = RecordKey::new(&[4; 32]).unwrap();
    let (dedup, damaged) = Dedup::open(Arc::new(folder.clone()), &other, settings, at(START)).unwrap();
    assert_eq!((dedup.is_empty(), damaged), (true, vec![1]));
    assert_eq!(folder.names().unwrap().len(), 2, "nothing that may be somebody's is removed");
}

#[test]
fn a_page_of_another_file_has_nothing() {
    let folder = SimFolder::new();
    let (mut dedup, _) = open(&folder, ROOMY, START);
    note(&mut dedup, 0..EVENTS, START);
    finish(&mut dedup, 2, START);
    let mut bytes = file();
    let page = format::PAGE..2 * format::PAGE;
    // The same identities, of another segment.
    bytes[page.clone()].copy_from_slice(&folder.bytes("0000000002.ids").unwrap()[page]);
    let (dedup, _) = with(NAME, &bytes);
    assert_eq!((0..EVENTS).filter(|number| knows(&dedup, *number, START)).count(), 300 - 127);
}

#[test]
fn a_damaged_file_is_rebuilt_or_forgotten() {
    let folder = SimFolder::new();
    folder.put(NAME, &file()[1..]);
    let (mut dedup, damaged) = open(&folder, ROOMY, START);
    let destinations = destinations([6]);
    let acceptance =
        Acceptance { identity: identity(5), destinations: &destinations, accepted: at(START), sequence: 0 };
    let sealing = dedup.rebuild(damaged[0], [acceptance], at(START));
    assert!(knows(&dedup, 5, START));
    dedup.adopt(sealing.write().unwrap(), at(START)).unwrap();
    let (dedup, damaged) = open(&folder, ROOMY, START);
    assert!(damaged.is_empty() && knows(&dedup, 5, START));

    folder.put(NAME, b"");
    let (mut dedup, _) = open(&folder, ROOMY, START);
    dedup.forget(1, at(START + 5)).unwrap();
    assert!(folder.names().unwrap().is_empty());
    assert_eq!(dedup.window(at(START + 15)), Duration::from_secs(10));
}
