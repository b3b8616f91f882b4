//! A cursor against the simplest thing that could be one, and what comes out when it is restored from its notes.

use std::{collections::BTreeSet, sync::LazyLock};

use hookbus_core::{Address, VerifiedEvent};
use hookbus_testkit::TestEvent;
use proptest::prelude::*;

use super::Progress;
use crate::{
    backlog::{EntryId, Room},
    cursor::{Ahead, Cursor, From, ToRead},
    format::{self, CursorNote, Location},
    segment::START,
};

/// Large, so that what is held in memory is soon full.
const RECORD: u32 = 1 << 20;
/// Records of a segment.
const SEGMENT: usize = 5;

static EVENT: LazyLock<VerifiedEvent> = LazyLock::new(|| TestEvent::new("fastpix").build());

/// What happens to a cursor.
#[derive(Clone, Debug)]
enum Step {
    /// A group is safe: its records, with how many destinations of the sink each has.
    Commit(Vec<u16>),
    /// Cursors alone are safe.
    Notes,
    Take {
        events: usize,
        records: usize,
    },
    /// A thread reads from disk, so many records at most, or cannot.
    Read(Option<usize>),
    /// Every so many of the taken entries are done.
    Resolve(usize),
    Note {
        full: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(0_u16..3, 1..6).prop_map(Step::Commit),
        1 => Just(Step::Notes),
        4 => (1_usize..8, 1_usize..8).prop_map(|(events, records)| Step::Take { events, records }),
        3 => prop_oneof![4 => (1_usize..9).prop_map(Some), 1 => Just(None)].prop_map(Step::Read),
        3 => (1_usize..4).prop_map(Step::Resolve),
        3 => prop::bool::weighted(0.2).prop_map(|full| Step::Note { full }),
    ];
    prop::collection::vec(step, 1..80)
}

/// A journal of one sink, without a disk.
#[derive(Default)]
struct Model {
    /// How many destinations each record has.
    records: Vec<u16>,
    taken: BTreeSet<EntryId>,
    resolved: BTreeSet<EntryId>,
    /// Each note as it is written, with what was resolved by then.
    notes: Vec<(Vec<u8>, BTreeSet<EntryId>)>,
}

impl Model {
    fn place(record: usize) -> Location {
        let (segment, within) = (record / SEGMENT, record % SEGMENT);
        Location { segment: segment as u64 + 1, offset: START + within as u64 * u64::from(RECORD) }
    }

    /// Behind the last record: in its segment, not at the beginning of the next one.
    fn head(&self) -> Location {
        let last = self.records.len().checked_sub(1).map(Self::place);
        last.map_or(Self::place(0), |last| Location { offset: last.offset + u64::from(RECORD), ..last })
    }

    fn ids(&self) -> impl Iterator<Item = EntryId> {
        let numbered = self.records.iter().enumerate();
        numbered.flat_map(|(at, count)| (0..*count).map(move |destination| id(at, destination)))
    }

    /// The entries of records from one on.
    fn entries(&self, records: std::ops::Range<usize>) -> Vec<Ahead> {
        let ids = self.ids().filter(|id| records.contains(&(id.sequence as usize)));
        ids.map(|id| ahead(id, From::Record)).collect()
    }

    /// Does what the cursor asks for.
    fn read(&self, cursor: &mut Cursor, most: Option<usize>) {
        let Some(job) = cursor.next_read() else { return };
        let found = most.map(|most| match &job {
            ToRead::Returned(ids) => {
                let entries = ids.iter().map(|(id, at)| {
                    assert_eq!(*at, Self::place(id.sequence as usize), "it is read where it lies");
                    ahead(*id, From::Returned)
                });
                (entries.collect(), Location::default())
            }
            ToRead::Carried(..) => unreachable!("nothing was carried"),
            ToRead::Records(from, to) => {
                assert_eq!(*to, self.head(), "it reads to the end");
                let first = (0..self.records.len()).find(|record| Self::place(*record) >= *from);
                let first = first.unwrap_or(self.records.len());
                let until = (first + most).min(self.records.len());
                let next = if until == self.records.len() { *to } else { Self::place(until) };
                (self.entries(first..until), next)
            }
        });
        cursor.read(&job, found);
    }

    fn take(&mut self, cursor: &mut Cursor, room: Room) -> Vec<EntryId> {
        let mut entries = Vec::new();
        cursor.take(room, &mut entries);
        let ids: Vec<_> = entries.into_iter().map(|entry| entry.id).collect();
        self.taken.extend(&ids);
        ids
    }

    /// Takes all there is.
    fn drain(&mut self, cursor: &mut Cursor) -> Vec<EntryId> {
        let mut all = Vec::new();
        while cursor.has_more() {
            self.read(cursor, Some(3));
            all.extend(self.take(cursor, Room { events: usize::MAX, bytes: usize::MAX }));
        }
        all
    }

    fn pending(&self) -> (u64, u64) {
        let events = self.ids().count() as u64 - self.resolved.len() as u64;
        (events, events * u64::from(RECORD))
    }

    fn step(&mut self, cursor: &mut Cursor, step: &Step, order: &mut Vec<EntryId>) {
        match step {
            Step::Commit(records) => {
                let first = self.records.len();
                self.records.extend(records);
                cursor.committed(self.entries(first..self.records.len()).into_iter(), self.head());
            }
            Step::Notes => cursor.set_head(self.head()),
            Step::Take { events, records } => {
                let room = Room { events: *events, bytes: records * RECORD as usize };
                order.extend(self.take(cursor, room));
            }
            Step::Read(most) => self.read(cursor, *most),
            Step::Resolve(every) => {
                let done: Vec<_> = self.taken.iter().copied().step_by(*every).collect();
                for id in done {
                    assert_eq!(cursor.resolve(id), Some(u64::from(RECORD)), "it was taken");
                    assert_eq!(cursor.resolve(id), None, "and is done now");
                    self.taken.remove(&id);
                    self.resolved.insert(id);
                }
            }
            Step::Note { full } => {
                let mut written = Vec::new();
                format::write(&cursor.note("one", self.pending(), *full), &mut written);
                assert_eq!(cursor.changes(), 0, "all of it is noted");
                self.notes.push((written, self.resolved.clone()));
            }
        }
    }
}

fn id(record: usize, destination: u16) -> EntryId {
    EntryId { sequence: record as u64, destination }
}

fn ahead(id: EntryId, from: From) -> Ahead {
    let at = Model::place(id.sequence as usize);
    let address = Address::from_parts([("topic", "media")], 1);
    Ahead { from, ..Ahead::new(id, EVENT.clone(), address, at, RECORD) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_cursor_hands_out_everything_once_and_in_order(steps in steps()) {
        let (mut model, mut order) = (Model::default(), Vec::new());
        let mut cursor = Cursor::at(model.head());
        for step in &steps {
            model.step(&mut cursor, step, &mut order);
        }
        order.extend(model.drain(&mut cursor));
        prop_assert_eq!(order, model.ids().collect::<Vec<_>>());
    }

    #[test]
    fn a_restored_cursor_hands_out_what_its_notes_do_not_say_is_resolved(
        steps in steps(), kept in any::<prop::sample::Index>(), lost in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (mut model, mut order) = (Model::default(), Vec::new());
        let mut cursor = Cursor::at(model.head());
        model.step(&mut cursor, &Step::Note { full: true }, &mut order);
        for step in &steps {
            model.step(&mut cursor, step, &mut order);
        }
        // The first one is a checkpoint and there; the power was cut behind the last of these, one of them is damaged.
        let kept = 1 + kept.index(model.notes.len());
        let lost = lost.map(|lost| lost.index(kept)).filter(|lost| *lost > 0);
        let mut progress = Progress::default();
        let mut known = (0, true);
        for (at, (written, _)) in model.notes[..kept].iter().enumerate() {
            let note: CursorNote<'_> = format::read(written).expect("it reads back");
            prop_assert_eq!(note.number, at as u64 + 1);
            if lost == Some(at) {
                known.1 = false;
                continue;
            }
            if note.full || known.1 {
                known = (at, true);
            }
            progress.apply(note);
        }
        let resolved = &model.notes[known.0].1;
        let expected: Vec<_> = model.ids().filter(|id| !resolved.contains(id)).collect();
        let mut restored = progress.cursor(model.head());
        model.taken.clear();
        let again = model.drain(&mut restored);
        prop_assert_eq!(&again, &expected);
        // And what is resolved then is noted again, whatever was noted before.
        for id in again.iter().step_by(2) {
            restored.resolve(*id);
        }
        let mut written = Vec::new();
        format::write(&restored.note("one", (0, 0), false), &mut written);
        let mut progress = Progress::default();
        progress.apply(format::read(&written).expect("it reads back"));
        let left: Vec<_> = again.iter().copied().skip(1).step_by(2).collect();
        prop_assert_eq!(model.drain(&mut progress.cursor(model.head())), left);
    }

    #[test]
    fn what_is_no_note_is_not_read_as_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(note) = format::read::<CursorNote<'_>>(&bytes) {
            let mut written = Vec::new();
            format::write(&note, &mut written);
            // Numbers may be written longer than they need be, but never mean something else.
            let again = format::read::<CursorNote<'_>>(&written).expect("it reads back");
            prop_assert_eq!(format!("{note:?}"), format!("{again:?}"));
        }
    }
}
