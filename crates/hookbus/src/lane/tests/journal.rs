//! Lanes that deliver from the journal.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use hookbus_core::{Batch, Report, units::ByteSize};
use hookbus_journal::{Backlog, Destination, Journal, Room};
use tempfile::TempDir;

use super::*;
use crate::{
    config,
    dead_letter::DeadLetters,
    lane::{FromJournal, Groups, JOURNAL_EVENTS},
};

struct Stand {
    journal: Journal,
    /// The other end of the lane's backlog.
    backlog: Backlog,
    lane: Lane,
    running: Running,
    sink: ScriptedSink,
    folder: TempDir,
}

fn journal() -> Journal {
    Journal::in_memory(&[Arc::from("bus")])
}

fn stand(sink: ScriptedSink) -> Stand {
    stand_on(journal(), sink)
}

fn stand_on(journal: Journal, sink: ScriptedSink) -> Stand {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let letters = config::DeadLetters { dir, max_size: ByteSize::from_bytes(64 << 20) };
    let from = FromJournal {
        backlog: journal.backlog(0),
        groups: Arc::new(Groups::default()),
        dead_letters: Arc::new(DeadLetters::new(&letters)),
    };
    let config = LaneConfig {
        max_events: 100,
        max_bytes: 4 << 20,
        publish_timeout: Duration::from_secs(5),
        places: Vec::new(),
    };
    let (lane, running) = Lane::start("bus".into(), Arc::new(sink.clone()), config, Some(from));
    Stand { backlog: journal.backlog(0), journal, lane, running, sink, folder }
}

impl Stand {
    fn append(&self, id: &str, subject: &str, topic: &str) {
        append(&self.journal, id, subject, topic);
    }

    /// Whether the `n`th event that was appended, from 1, is taken and not resolved.
    async fn holds(&self, n: u64) -> bool {
        self.backlog.again(hookbus_journal::EntryId { sequence: n, destination: 0 }).await.is_ok()
    }

    fn sent(&self) -> Vec<String> {
        self.sink.batches().concat()
    }

    fn letters(&self) -> Vec<serde_json::Value> {
        letters(&self.folder.path().join("data"))
    }
}

fn append(journal: &Journal, id: &str, subject: &str, topic: &str) {
    let event = TestEvent::new("fastpix").id(id).subject(subject).build();
    let _commit = journal.append(&event, &[Destination { sink: 0, address: address(topic) }]).unwrap();
}

fn letters(folder: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("dead-letters.ndjson")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Lets the paused clock run until something holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
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
    for n in 1..=200 {
        assert!(!stand.holds(n).await, "{n} is resolved");
    }
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
                append(&journal, &format!("g{}-{n}", n % 50), &format!("g{}", n % 50), "gone");
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
    assert!(!stand.holds(1).await && !stand.holds(gone as u64).await, "they are resolved");
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
    let everything = Room { events: usize::MAX, bytes: usize::MAX };
    assert_eq!(stand.backlog.take(everything).await.unwrap().len(), 1_500);
    assert!(stand.holds(1).await && stand.holds(JOURNAL_EVENTS as u64).await);
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
    eventually("the dead letter is kept", || stand.letters().len() == 1).await;
    settle().await;
    assert!(!stand.holds(2).await);
    let letter = &stand.letters()[0];
    assert_eq!((letter["reason"].as_str(), letter["attempts"].as_u64()), (Some("too-large"), Some(1)));
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
    eventually("all are kept", || stand.letters().len() == JOURNAL_EVENTS + 100).await;
    settle().await;
    assert!(!stand.holds(1).await && !stand.holds(JOURNAL_EVENTS as u64 + 100).await);
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
    assert_eq!(stand.letters().len(), 0);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(stand.letters().len(), 1_000);
    assert_eq!(stand.letters()[999]["reason"], "unroutable");
    assert!(!stand.holds(1).await && stand.holds(1_001).await, "the young one has time yet");
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(stand.letters().len(), 1_001);
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
        assert_eq!(stand.letters().len(), 0);
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(stand.letters().len(), 1);
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
    assert_eq!(stand.letters().len(), 0);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(stand.letters().len(), 300);
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
    let holds = |n| hookbus_journal::EntryId { sequence: n, destination: 0 };
    assert!(stand.backlog.again(holds(1)).await.is_err(), "its delivery counts");
    assert!(stand.backlog.again(holds(2)).await.is_ok());
}
