//! Acceptance against scripted sinks, on paused time.

use std::{path::Path, sync::Arc, time::Duration};

use hookbus_core::{
    Address, Capabilities, ErrorKind, Outcome, Router, SinkError, VerifiedEvent,
    route::{Route, Target},
    sink::AddressKey,
};
use hookbus_journal::{Journal, Letter};
use hookbus_testkit::{ScriptedSink, TestEvent};
use tokio::time::{Instant, advance};

use super::{Acceptor, Disposition, NotAccepted, Waiting};
use crate::{
    config::Ack,
    control::{NotRedriven, Redrive as _, Today},
    dead_letters::{LetterBox, LettersState},
    lane::{FromJournal, Groups, Lane, LaneConfig, Running},
    metrics::SinkMetrics,
};

const KEY: AddressKey = AddressKey::required("topic");
const JOURNAL: Waiting = Waiting { ack_timeout: Duration::from_secs(2), ack: Ack::Journal };
const WAITING: Waiting = Waiting { ack_timeout: Duration::from_secs(2), ack: Ack::Sinks };

/// An acceptor whose one route goes to all these sinks: the first at the topic rendered from this template, others at `t`.
fn acceptor(
    folder: &Path,
    sinks: &[&ScriptedSink],
    topic: &str,
    quota: u64,
) -> (Arc<Acceptor>, Vec<Running>) {
    let topic = |sink| if sink == 0 { topic } else { "t" };
    let target = |sink| Target::new(sink, vec![(KEY, topic(sink).parse().unwrap())]);
    let types = vec!["video.*".parse().unwrap()];
    let to = (0..sinks.len()).map(target).collect();
    let router =
        Router::new([Arc::from("fastpix")], &[Route { name: "all".into(), sources: vec![], types, to }])
            .unwrap();
    let config = LaneConfig {
        max_events: 100,
        max_bytes: 4 << 20,
        publish_timeout: Duration::from_secs(5),
        places: Vec::new(),
        metrics: Arc::new(SinkMetrics::new("bus".into())),
    };
    let dead_letters = Arc::new(LetterBox::at(folder.join("data"), quota));
    let names: Vec<Arc<str>> = (0..sinks.len()).map(|at| format!("s{at}").into()).collect();
    let journal = Journal::in_memory(&names);
    let groups = Arc::new(Groups::default());
    let lane = |(at, sink): (usize, &&ScriptedSink)| {
        let (groups, dead_letters) = (Arc::clone(&groups), Arc::clone(&dead_letters));
        let from = FromJournal { backlog: journal.backlog(at), groups, dead_letters };
        Lane::start(Arc::clone(&names[at]), Arc::new((*sink).clone()), config.clone(), Some(from))
    };
    let (lanes, running): (Vec<_>, _) = sinks.iter().enumerate().map(lane).unzip();
    let lanes = lanes.into_iter().map(Arc::new).collect();
    let today = Arc::new(Today { sinks: names, router });
    (Arc::new(Acceptor::new(today, lanes, groups, dead_letters, Some(journal))), running)
}

fn event(id: &str) -> VerifiedEvent {
    TestEvent::new("fastpix").id(id).subject("m").build()
}

fn down() -> Outcome {
    Outcome::retry(SinkError::new(ErrorKind::Unavailable, "publish", "scripted"))
}

/// Ends it all, so that nobody has the folder any more.
async fn end(acceptor: Arc<Acceptor>, lanes: Vec<Running>) {
    drop(acceptor);
    for lane in lanes {
        lane.stop(Instant::now() + Duration::from_secs(1)).await;
    }
}

/// What the letters of a folder say of their reasons and errors, once nobody else has it.
async fn letters(folder: &Path) -> Vec<String> {
    let path = folder.join("data");
    if !path.exists() {
        return Vec::new();
    }
    let (_data, letters) = crate::dead_letters::open(&path, crate::dead_letters::settings(1 << 20)).unwrap();
    let said = letters.list(None, 100).await.unwrap();
    said.letters.iter().map(|letter| format!("{}: {}", letter.reason, letter.error)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_second_delivery_of_the_same_event_is_not_published_again() {
    let folder = tempfile::tempdir().unwrap();
    let sink = ScriptedSink::delivering(Capabilities::new());
    let (acceptor, _lanes) = acceptor(folder.path(), &[&sink], "t", 1 << 20);
    assert_eq!(acceptor.accept(event("e1"), WAITING).await.unwrap(), Disposition::Accepted);
    assert_eq!(acceptor.accept(event("e1"), WAITING).await.unwrap(), Disposition::Duplicate);
    assert_eq!(acceptor.accept(event("e2"), WAITING).await.unwrap(), Disposition::Accepted);
    assert_eq!(sink.batches().concat(), ["e1", "e2"]);
    advance(Duration::from_secs(601)).await;
    assert_eq!(
        acceptor.accept(event("e1"), WAITING).await.unwrap(),
        Disposition::Accepted,
        "the memory is ten minutes"
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_no_route_takes_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let sink = ScriptedSink::delivering(Capabilities::new());
    let (acceptor, _lanes) = acceptor(folder.path(), &[&sink], "t", 1 << 20);
    let other = TestEvent::new("fastpix").event_type("audio.ready").build();
    assert_eq!(acceptor.accept(other, WAITING).await.unwrap(), Disposition::Ignored);
    assert!(sink.batches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_goes_only_where_the_event_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let good = ScriptedSink::delivering(Capabilities::new());
    let bad = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        report.set_rest(&if call == 0 { down() } else { Outcome::delivered(None) });
    });
    bad.fail_probes(Some(SinkError::new(ErrorKind::Unavailable, "probe", "scripted")));
    let (acceptor, _lanes) = acceptor(folder.path(), &[&good, &bad], "t", 1 << 20);
    let refused = acceptor.accept(event("e1"), WAITING).await.unwrap_err();
    assert!(refused.why().contains("s1"), "{}", refused.why());
    bad.fail_probes(None);
    advance(Duration::from_secs(60)).await;
    tokio::task::yield_now().await;
    loop {
        // The lane has to notice that its sink is back.
        match acceptor.accept(event("e1"), WAITING).await {
            Ok(accepted) => break assert_eq!(accepted, Disposition::Accepted),
            Err(_) => advance(Duration::from_secs(1)).await,
        }
    }
    assert_eq!(good.batches().concat(), ["e1"], "the sink that had it is left alone");
    assert_eq!(bad.batches().concat(), ["e1", "e1"]);
}

#[tokio::test(start_paused = true)]
async fn two_requests_of_one_event_at_once_publish_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new()).gated();
    let (acceptor, _lanes) = acceptor(folder.path(), &[&sink], "t", 1 << 20);
    let one = acceptor.accept(event("e1"), WAITING);
    let two = acceptor.accept(event("e1"), WAITING);
    let open = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.add_permits(1);
    };
    let (one, two, ()) = tokio::join!(one, two, open);
    let mut outcomes = [one.unwrap(), two.unwrap()];
    outcomes.sort_by_key(|outcome| *outcome == Disposition::Duplicate);
    assert_eq!(outcomes, [Disposition::Accepted, Disposition::Duplicate]);
    assert_eq!(sink.batches().concat(), ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_confirmation_counts_for_the_redelivery() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new()).gated();
    let (acceptor, _lanes) = acceptor(folder.path(), &[&sink], "t", 1 << 20);
    assert!(acceptor.accept(event("e1"), WAITING).await.is_err(), "no confirmation within the ack-timeout");
    gate.add_permits(1);
    assert_eq!(acceptor.accept(event("e1"), WAITING).await.unwrap(), Disposition::Duplicate);
    assert_eq!(sink.batches().concat(), ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_nothing_more_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new().max_batch(1)).gated();
    let (acceptor, _lanes) = acceptor(folder.path(), &[&sink], "t", 1 << 20);
    let in_flight = acceptor.accept(event("e1"), WAITING);
    let queued = acceptor.accept(event("e2"), WAITING);
    let (in_flight, queued) = tokio::join!(in_flight, queued);
    assert!(in_flight.is_err() && queued.is_err());
    gate.add_permits(10);
    assert_eq!(acceptor.accept(event("e3"), WAITING).await.unwrap(), Disposition::Accepted);
    assert_eq!(sink.batches().concat(), ["e1", "e3"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_withdraws_its_event() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new().max_batch(1)).gated();
    let (acceptor, _lanes) = acceptor(folder.path(), &[&sink], "t", 1 << 20);
    let first = tokio::spawn({
        let acceptor = Arc::clone(&acceptor);
        async move { acceptor.accept(event("e1"), WAITING).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let gone = tokio::time::timeout(Duration::from_millis(10), acceptor.accept(event("e2"), WAITING)).await;
    assert!(gone.is_err(), "dropped while waiting");
    gate.add_permits(10);
    assert_eq!(first.await.unwrap().unwrap(), Disposition::Accepted);
    assert_eq!(acceptor.accept(event("e3"), WAITING).await.unwrap(), Disposition::Accepted);
    assert_eq!(sink.batches().concat(), ["e1", "e3"]);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_event_is_accepted_once_its_dead_letter_is_safe() {
    let folder = tempfile::tempdir().unwrap();
    let sink = ScriptedSink::new(Capabilities::new(), |_, _, report| {
        report.set_rest(&Outcome::rejected(SinkError::new(ErrorKind::TooLarge, "publish", "scripted")));
    });
    let (kept, lanes) = acceptor(folder.path(), &[&sink], "t", 1 << 20);
    assert_eq!(kept.accept(event("e1"), WAITING).await.unwrap(), Disposition::Accepted);
    end(kept, lanes).await;
    assert_eq!(letters(folder.path()).await.len(), 1);
    let (full, lanes) = acceptor(folder.path(), &[&sink], "t", 10);
    let refused = full.accept(event("e2"), WAITING).await.unwrap_err();
    let refused = refused.why();
    assert!(refused.contains("max-size"), "{refused}");
    end(full, lanes).await;
    assert_eq!(letters(folder.path()).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_valid_address_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let sink = ScriptedSink::delivering(Capabilities::new());
    let (acceptor, lanes) = acceptor(folder.path(), &[&sink], "{body:/tenant}", 1 << 20);
    assert_eq!(acceptor.accept(event("e1"), WAITING).await.unwrap(), Disposition::Accepted);
    assert!(sink.batches().is_empty());
    end(acceptor, lanes).await;
    let text = letters(folder.path()).await.concat();
    assert!(text.contains("unaddressable") && text.contains("{body:/tenant}"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn by_the_journal_an_event_is_accepted_whatever_its_sinks_do() {
    let folder = tempfile::tempdir().unwrap();
    let good = ScriptedSink::delivering(Capabilities::new());
    let bad = ScriptedSink::delivering(Capabilities::new());
    bad.fail_probes(Some(SinkError::new(ErrorKind::Unavailable, "probe", "scripted")));
    let (acceptor, _lanes) = acceptor(folder.path(), &[&good, &bad], "t", 1 << 20);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(acceptor.accept(event("e1"), JOURNAL).await.unwrap(), Disposition::Accepted);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((good.batches().concat(), bad.batches().len()), (vec!["e1".to_owned()], 0));
    bad.fail_probes(None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bad.batches().concat(), ["e1"], "it comes when it can");
    let other = TestEvent::new("fastpix").event_type("audio.ready").build();
    assert_eq!(acceptor.accept(other, JOURNAL).await.unwrap(), Disposition::Ignored);
}

#[tokio::test(start_paused = true)]
async fn by_the_journal_too_an_event_without_a_valid_address_is_a_dead_letter_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let sink = ScriptedSink::delivering(Capabilities::new());
    let (kept, lanes) = acceptor(folder.path(), &[&sink], "{body:/tenant}", 1 << 20);
    assert_eq!(kept.accept(event("e1"), JOURNAL).await.unwrap(), Disposition::Accepted);
    end(kept, lanes).await;
    assert_eq!(letters(folder.path()).await.len(), 1);
    let full = tempfile::tempdir().unwrap();
    let (full, _lanes) = acceptor(full.path(), &[&sink], "{body:/tenant}", 10);
    assert_eq!(*full.dead_letters.state().borrow(), LettersState::Ready);
    assert!(full.accept(event("e2"), JOURNAL).await.unwrap_err().why().contains("max-size"));
    assert_eq!(*full.dead_letters.state().borrow(), LettersState::Full);
}

#[tokio::test(start_paused = true)]
async fn by_the_journal_nothing_is_left_of_an_event_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sinks = [1, 2].map(|_| ScriptedSink::delivering(Capabilities::new()));
    let (acceptor, lanes) = acceptor(folder.path(), &[&sinks[0], &sinks[1]], "{body:/tenant}", 1 << 30);
    let large = TestEvent::new("fastpix").id("large").subject("m").length(17 << 20).build();
    for _ in 0..3 {
        acceptor.accept(large.clone(), JOURNAL).await.unwrap_err();
    }
    acceptor.accept(event("e1"), JOURNAL).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(sinks[1].batches().concat(), ["e1"]);
    end(acceptor, lanes).await;
    assert_eq!(letters(folder.path()).await.len(), 1, "that of e1");
}

#[tokio::test(start_paused = true)]
async fn what_no_segment_takes_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let sink = ScriptedSink::delivering(Capabilities::new());
    let (acceptor, lanes) = acceptor(folder.path(), &[&sink], "t", 1 << 20);
    let large = TestEvent::new("fastpix").id("large").subject("m").length(17 << 20).build();
    let refused = acceptor.accept(large, JOURNAL).await.unwrap_err();
    assert!(matches!(refused, NotAccepted::TooLarge), "{refused:?}");
    assert_eq!(acceptor.accept(event("e1"), JOURNAL).await.unwrap(), Disposition::Accepted);
    end(acceptor, lanes).await;
}

#[tokio::test(start_paused = true)]
async fn a_redriven_letter_goes_through_its_lane() {
    let folder = tempfile::tempdir().unwrap();
    let sink = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        let refused = SinkError::new(ErrorKind::TooLarge, "publish", "scripted");
        report.set_rest(&if call == 0 { Outcome::rejected(refused) } else { Outcome::delivered(None) });
    });
    let (acceptor, _lanes) = acceptor(folder.path(), &[&sink], "t", 1 << 20);
    let current = Arc::new(arc_swap::ArcSwap::new(Arc::clone(&acceptor)));
    let redrive = super::ByLanes(Arc::downgrade(&current));
    let letter = |sink: &str| {
        let address = Some(Address::from_parts([("topic", "old")], 1));
        Letter { address, ..Letter::new(event("e1"), sink.into(), "too-large", "scripted") }
    };
    let refused = redrive.redrive(&letter("s0"), false).await.unwrap_err();
    assert!(matches!(&refused, NotRedriven::NotDelivered(why) if why.contains("too-large")), "{refused}");
    redrive.redrive(&letter("s0"), false).await.unwrap();
    assert!(matches!(redrive.redrive(&letter("s7"), false).await, Err(NotRedriven::NoSink(_))));
    redrive.redrive(&letter("s7"), true).await.unwrap();
    assert_eq!(sink.batches().concat(), ["e1", "e1", "e1"]);
    drop((acceptor, current));
    assert!(matches!(redrive.redrive(&letter("s0"), false).await, Err(NotRedriven::Stopping)));
}
