//! Lanes that deliver from the journal.

use std::{
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use hookbus_core::{Batch, Report};
use hookbus_journal::{Backlog, Destination, EntryId, Journal, Room, Summary};
use tempfile::TempDir;

use super::*;
use crate::{
    dead_letters::LetterBox,
    lane::{FromJournal, Groups, JOURNAL_EVENTS},
};

pub(super) struct Stand {
    journal: Journal,
    /// The other end of the lane's backlog.
    backlog: Backlog,
    /// A sink without a lane gets all that is appended here too: by this it is known what numbers the journal gave.
    witness: Mutex<(Backlog, Vec<EntryId>)>,
    pub(super) lane: Lane,
    running: Running,
    pub(super) sink: ScriptedSink,
    /// What the lane puts into groups by.
    pub(super) groups: Arc<Groups>,
    letters: Arc<LetterBox>,
    folder: TempDir,
}

fn journal() -> Journal {
    Journal::in_memory(&[Arc::from("bus"), Arc::from("witness")])
}

pub(super) fn stand(sink: ScriptedSink) -> Stand {
    stand_on(journal(), sink)
}

fn stand_on(journal: Journal, sink: ScriptedSink) -> Stand {
    let folder = tempfile::tempdir().unwrap();
    let letters = Arc::new(LetterBox::at(folder.path().join("data"), 64 << 20));
    let groups = Arc::new(Groups::default());
    let from = FromJournal {
        backlog: journal.backlog(0),
        groups: Arc::clone(&groups),
        dead_letters: Arc::clone(&letters),
    };
    let config = LaneConfig {
        max_events: 100,
        max_bytes: 4 << 20,
        publish_timeout: Duration::from_secs(5),
        places: Vec::new(),
        metrics: Arc::new(SinkMetrics::new("bus".into())),
    };
    let (lane, running) = Lane::start("bus".into(), Arc::new(sink.clone()), config, Some(from));
    let witness = Mutex::new((journal.backlog(1), Vec::new()));
    Stand { backlog: journal.backlog(0), journal, witness, lane, running, sink, groups, letters, folder }
}

impl Stand {
    pub(super) fn append(&self, id: &str, subject: &str, topic: &str) {
        append(&self.journal, &[0, 1], id, subject, topic);
        let mut witness = self.witness.lock().unwrap();
        let (backlog, numbers) = &mut *witness;
        let seen = at_once(backlog.take(Room { events: 2, bytes: usize::MAX })).unwrap();
        assert_eq!(seen.len(), 1, "the one that was appended");
        backlog.resolve(seen[0].id);
        // Of its record it is the second destination.
        numbers.push(EntryId { destination: 0, ..seen[0].id });
    }

    pub(super) fn state(&self) -> HealthState {
        self.lane.health().borrow().state
    }

    /// The `n`th event that was appended, from 1.
    fn id(&self, n: usize) -> EntryId {
        self.witness.lock().unwrap().1[n - 1]
    }

    /// Whether the `n`th event that was appended, from 1, is taken and not resolved.
    async fn holds(&self, n: usize) -> bool {
        self.backlog.again(self.id(n)).await.is_ok()
    }

    /// How many events are not resolved.
    pub(super) fn unresolved(&self) -> u64 {
        self.journal.pending()[0].events
    }

    pub(super) fn sent(&self) -> Vec<String> {
        self.sink.batches().concat()
    }

    async fn letters(&self) -> Vec<Summary> {
        self.letters.list().await
    }
}

/// Appends an event for the sinks at these places.
fn append(journal: &Journal, sinks: &[usize], id: &str, subject: &str, topic: &str) {
    let event = TestEvent::new("fastpix").id(id).subject(subject).build();
    let to: Vec<_> = sinks.iter().map(|sink| Destination { sink: *sink, address: address(topic) }).collect();
    at_once(journal.append(&event, &to)).unwrap();
}

/// What comes of it without waiting, as everything does that a journal in memory has at hand.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it has to wait"),
    }
}

/// Lets the paused clock run until something holds.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// A sink whose topic `gone` is not there, as long as `missing` says so.
fn without_gone(missing: impl Fn() -> bool + Send + Sync + 'static) -> ScriptedSink {
    let fill = move |_: usize, batch: &Batch, report: &Report| {
        for (at, envelope) in batch.iter().enumerate() {
            let gone = envelope.address.get("topic") == Some("gone") && missing();
            let unroutable = || Outcome::retry(error(ErrorKind::Unroutable));
            report.set(at, if gone { unroutable() } else { Outcome::delivered(None) });
        }
    };
    let sink = ScriptedSink::new(Capabilities::new().max_in_flight(4), fill);
    sink.fail_address_probes(Some(error(ErrorKind::Unroutable)));
    sink
}

/// Events of the form `SUBJECT-NUMBER` by subject, each where it was delivered first.
fn in_order(ids: impl IntoIterator<Item = String>) -> bool {
    let mut last = std::collections::HashMap::new();
    ids.into_iter().all(|id| {
        let (subject, number) = id.split_once('-').unwrap();
        let number: usize = number.parse().unwrap();
        last.insert(subject.to_owned(), number).is_none_or(|before| before < number)
    })
}

#[tokio::test(start_paused = true)]
async fn groups_keep_their_order_through_retries() {
    let delivered = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = Arc::clone(&delivered);
    // Of three events one fails, in every call another one, and sometimes the whole sink.
    let sink =
        ScriptedSink::new(Capabilities::new().max_in_flight(3).max_batch(7), move |call, batch, report| {
            for (at, envelope) in batch.iter().enumerate() {
                let kind = if call % 11 == 5 { ErrorKind::Unavailable } else { ErrorKind::Unexpected };
                if (call + at) % 3 == 0 || call % 11 == 5 {
                    report.set(at, Outcome::retry(error(kind)));
                } else {
                    record.lock().unwrap().push(envelope.event.id().to_string());
                    report.set(at, Outcome::delivered(None));
                }
            }
        });
    let stand = stand(sink);
    for n in 0..40 {
        for subject in ["a", "b", "c", "d", "e"] {
            stand.append(&format!("{subject}-{n}"), subject, "media");
        }
    }
    eventually("all are delivered", || delivered.lock().unwrap().len() == 200).await;
    assert!(stand.sent().len() > 220, "many had to be tried again");
    assert!(in_order(delivered.lock().unwrap().clone()));
    settle().await;
    assert_eq!(stand.unresolved(), 0);
}

#[tokio::test(start_paused = true)]
async fn thousands_for_a_missing_address_hold_up_no_other_and_come_in_order_when_it_is_back() {
    let gone = JOURNAL_EVENTS + 1_000;
    let (journal, missing) = (journal(), Arc::new(AtomicBool::new(true)));
    // Once the address is back newer events come, one with each that is delivered: they stay behind the old ones.
    let sink = without_gone({
        let (journal, missing, next) = (journal.clone(), Arc::clone(&missing), AtomicUsize::new(gone));
        move || {
            let is_missing = missing.load(Ordering::Acquire);
            let n = if is_missing { usize::MAX } else { next.fetch_add(1, Ordering::AcqRel) };
            if n < gone + 500 {
                append(&journal, &[0], &format!("g{}-{n}", n % 50), &format!("g{}", n % 50), "gone");
            }
            is_missing
        }
    });
    let stand = stand_on(journal, sink);
    for n in 0..gone {
        stand.append(&format!("g{}-{n}", n % 50), &format!("g{}", n % 50), "gone");
    }
    for n in 0..10 {
        stand.append(&format!("good-{n}"), "good", "media");
    }
    let good = |stand: &Stand| stand.sent().iter().filter(|id| id.starts_with("good")).count();
    eventually("the others are delivered", || good(&stand) == 10).await;
    assert_eq!(stand.lane.health().borrow().state, HealthState::Degraded);
    let tried = stand.sent().len();
    missing.store(false, Ordering::Release);
    stand.sink.fail_address_probes(None);
    eventually("all are delivered", || stand.sent().len() - tried == gone + 500).await;
    assert!(in_order(stand.sent().split_off(tried)));
    assert_eq!(stand.lane.health().borrow().state, HealthState::Ready);
    settle().await;
    assert_eq!(stand.unresolved(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_sink_is_down_a_window_is_held_and_the_rest_stays_in_the_journal() {
    let sink = ScriptedSink::new(Capabilities::new(), |_, _, report| {
        report.set_rest(&Outcome::retry(error(ErrorKind::Unavailable)));
    });
    sink.fail_probes(Some(error(ErrorKind::Unavailable)));
    let mut stand = stand(sink);
    let count = JOURNAL_EVENTS + 1_500;
    for n in 0..count {
        stand.append(&format!("a-{n}"), "a", "media");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(stand.sink.batches().len() <= 1, "no event is risked while probes fail");
    let mut rest = 0;
    while rest < 1_500 {
        let taken = stand.backlog.take(Room { events: usize::MAX, bytes: usize::MAX }).await.unwrap();
        assert!(!taken.is_empty(), "only {rest} were left");
        rest += taken.len();
    }
    assert_eq!((rest, stand.unresolved()), (1_500, count as u64));
    assert!(stand.holds(1).await && stand.holds(JOURNAL_EVENTS).await);
}

#[tokio::test(start_paused = true)]
async fn what_came_during_an_outage_is_delivered_after_one_trial() {
    let sink = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        let lost = Outcome::maybe_delivered(error(ErrorKind::Timeout));
        report.set_rest(&if call < 3 { lost } else { Outcome::delivered(None) });
    });
    let stand = stand(sink);
    for n in 0..20 {
        stand.append(&format!("s{n}-0"), &format!("s{n}"), "media");
    }
    eventually("all are delivered", || stand.sent().len() == 42).await;
    let sizes: Vec<_> = stand.sink.batches().iter().map(Vec::len).collect();
    assert_eq!(
        sizes,
        [20, 1, 1, 1, 19],
        "one window, then single trials until one is answered, then the rest"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rejected_event_leaves_its_group_and_its_dead_letter_is_tried_until_it_is_safe() {
    let sink = ScriptedSink::new(Capabilities::new(), |_, batch, report| {
        for (at, envelope) in batch.iter().enumerate() {
            let poison = envelope.event.id().as_str() == "a-1";
            let rejected = Outcome::rejected(error(ErrorKind::TooLarge));
            report.set(at, if poison { rejected } else { Outcome::delivered(None) });
        }
    });
    let stand = stand(sink);
    let in_the_way = stand.folder.path().join("data");
    std::fs::write(&in_the_way, "the store cannot be made").unwrap();
    for n in 0..3 {
        stand.append(&format!("a-{n}"), "a", "media");
    }
    eventually("the group goes on", || stand.sent() == ["a-0", "a-1", "a-2"]).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(stand.holds(2).await, "not resolved before its dead letter is safe");
    assert!(!stand.holds(3).await);
    std::fs::remove_file(&in_the_way).unwrap();
    eventually("the dead letter is kept", || stand.letters.count() == 1).await;
    settle().await;
    assert!(!stand.holds(2).await);
    let letter = stand.letters().await.remove(0);
    assert_eq!((&*letter.reason, letter.attempts, letter.entry), ("too-large", 1, Some(stand.id(2))));
    assert_eq!(stand.sent().len(), 3, "it is not tried again");
}

#[tokio::test(start_paused = true)]
async fn more_dead_letters_than_may_be_on_their_way_are_all_kept() {
    let sink = ScriptedSink::new(Capabilities::new(), |_, _, report| {
        report.set_rest(&Outcome::rejected(error(ErrorKind::InvalidEvent)));
    });
    let stand = stand(sink);
    let in_the_way = stand.folder.path().join("data");
    std::fs::write(&in_the_way, "the store cannot be made").unwrap();
    for n in 0..JOURNAL_EVENTS + 100 {
        stand.append(&format!("a-{n}"), "a", "media");
    }
    eventually("a store in trouble stops nothing", || stand.sent().len() == JOURNAL_EVENTS + 100).await;
    std::fs::remove_file(&in_the_way).unwrap();
    eventually("all are kept", || stand.letters.count() == JOURNAL_EVENTS + 100).await;
    settle().await;
    assert_eq!(stand.unresolved(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_address_missing_for_fifteen_minutes_makes_dead_letters_of_what_waited_so_long() {
    let stand = stand(without_gone(|| true));
    for n in 0..1_000 {
        stand.append(&format!("old-{n}"), "old", "gone");
    }
    tokio::time::sleep(Duration::from_mins(10)).await;
    stand.append("young-0", "young", "gone");
    tokio::time::sleep(Duration::from_mins(4)).await;
    assert_eq!(stand.letters.count(), 0);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(stand.letters.count(), 1_000);
    assert_eq!(&*stand.letters().await[999].reason, "unroutable");
    assert!(!stand.holds(1).await && stand.holds(1_001).await, "the young one has time yet");
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(stand.letters.count(), 1_001);
    assert!(!stand.holds(1_001).await);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_not_there_right_after_an_outage_gets_its_fifteen_minutes() {
    for metadata in [Some(error(ErrorKind::Unroutable)), None] {
        let sink = without_gone(|| true);
        sink.fail_probes(Some(error(ErrorKind::Unavailable)));
        sink.fail_address_probes(metadata);
        let stand = stand(sink);
        stand.append("a-0", "a", "gone");
        tokio::time::sleep(Duration::from_mins(60)).await;
        stand.sink.fail_probes(None);
        tokio::time::sleep(Duration::from_mins(14)).await;
        assert_eq!(stand.letters.count(), 0);
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(stand.letters.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_whose_metadata_are_fine_is_given_up_too() {
    let sink = without_gone(|| true);
    sink.fail_address_probes(None);
    let stand = stand(sink);
    for n in 0..300 {
        stand.append(&format!("a-{n}"), "a", "gone");
    }
    tokio::time::sleep(Duration::from_mins(14)).await;
    assert_eq!(stand.letters.count(), 0);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(stand.letters.count(), 300);
}

#[tokio::test(start_paused = true)]
async fn requests_are_refused_while_events_of_the_journal_wait() {
    let sink = ScriptedSink::delivering(Capabilities::new());
    sink.fail_probes(Some(error(ErrorKind::Unavailable)));
    let stand = stand(sink);
    settle().await;
    stand.append("a-0", "a", "media");
    let (ticket, request) = RequestTicket::for_test(address("media"));
    let event = TestEvent::new("fastpix").id("r-0").build();
    stand.lane.submit(Delivery::new(Envelope::new(event.clone(), address("media")), ticket));
    settle().await;
    assert_eq!(request.now(), "missing");
    assert!(stand.holds(1).await);
    stand.sink.fail_probes(None);
    eventually("it is delivered", || stand.sent() == ["a-0"]).await;
    let (ticket, request) = RequestTicket::for_test(address("media"));
    stand.lane.submit(Delivery::new(Envelope::new(event, address("media")), ticket));
    stand.append("a-1", "a", "media");
    assert_eq!(request.word().await, "delivered");
    eventually("both are delivered", || stand.sent().len() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn events_of_the_journal_wait_a_moment_for_company_and_no_request_waits_with_them() {
    let stand = stand(ScriptedSink::delivering(Capabilities::new()));
    settle().await;
    let began = Instant::now();
    stand.append("a-0", "a", "media");
    settle().await;
    stand.append("b-0", "b", "media");
    settle().await;
    assert!(stand.sent().is_empty() && began.elapsed().is_zero());
    while stand.sent().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(began.elapsed() <= Duration::from_millis(2), "{:?}", began.elapsed());
    assert_eq!(stand.sink.batches(), [vec!["a-0", "b-0"]]);

    let began = Instant::now();
    stand.append("a-1", "a", "media");
    settle().await;
    let (ticket, request) = RequestTicket::for_test(address("media"));
    let event = TestEvent::new("fastpix").id("r-0").build();
    stand.lane.submit(Delivery::new(Envelope::new(event, address("media")), ticket));
    settle().await;
    assert_eq!((request.now(), began.elapsed()), ("delivered", Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_delivered_when_the_lane_stops_stays_in_the_journal() {
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new().max_batch(1)).gated();
    let stand = stand(sink);
    stand.append("a-0", "a", "media");
    stand.append("a-1", "a", "media");
    eventually("one is in flight", || stand.sent().len() == 1).await;
    let (running, deadline) = (stand.running, Instant::now() + Duration::from_secs(3));
    let stopping = tokio::spawn(running.stop(deadline));
    settle().await;
    gate.add_permits(5);
    stopping.await.unwrap();
    assert!(stand.sink.is_closed());
    let (first, second) = {
        let witness = stand.witness.lock().unwrap();
        (witness.1[0], witness.1[1])
    };
    assert!(stand.backlog.again(first).await.is_err(), "its delivery counts");
    assert!(stand.backlog.again(second).await.is_ok());
}
