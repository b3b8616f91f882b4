//! Lanes against a scripted sink, on paused time.

mod exchange;
mod journal;

use std::{sync::Arc, time::Duration};

use hookbus_core::{
    Address, Capabilities, Envelope, ErrorKind, HealthState, Outcome, Router, SinkError,
    route::{Route, Target},
    sink::AddressKey,
};
use hookbus_testkit::{ScriptedSink, TestEvent};
use tokio::time::{Instant, advance};

use super::{Delivery, Lane, LaneConfig, Running};
use crate::{
    accept::{RequestTicket, TestTicket},
    metrics::SinkMetrics,
};

const KEY: AddressKey = AddressKey::required("topic");

/// Addresses come out of routers only.
pub(super) fn address(topic: &str) -> Address {
    let to = vec![Target::new(0, vec![(KEY, topic.parse().unwrap())])];
    let route = Route { name: "all".into(), sources: Vec::new(), types: Vec::new(), to };
    let router = Router::new([Arc::from("fastpix")], &[route]).unwrap();
    router.route(&TestEvent::new("fastpix").build()).destinations[0].address.clone()
}

struct Fixture {
    lane: Lane,
    running: Running,
    sink: ScriptedSink,
}

fn start(sink: ScriptedSink) -> Fixture {
    start_with(sink, 100)
}

fn start_with(sink: ScriptedSink, max_events: usize) -> Fixture {
    let config = LaneConfig {
        max_events,
        max_bytes: 4 << 20,
        publish_timeout: Duration::from_secs(5),
        places: Vec::new(),
        metrics: Arc::new(SinkMetrics::new("bus".into())),
    };
    let (lane, running) = Lane::start("bus".into(), Arc::new(sink.clone()), config, None);
    Fixture { lane, running, sink }
}

impl Fixture {
    fn submit(&self, id: &str, group: Option<u64>) -> TestTicket {
        self.submit_to(id, group, "media")
    }

    fn submit_to(&self, id: &str, group: Option<u64>, topic: &str) -> TestTicket {
        let (ticket, view) = RequestTicket::for_test(address(topic));
        let event = TestEvent::new("fastpix").id(id).build();
        let envelope = Envelope::new(event, address(topic));
        let envelope = group.map_or(envelope.clone(), |group| envelope.in_group(group));
        self.lane.submit(Delivery::new(envelope, ticket));
        view
    }

    fn state(&self) -> HealthState {
        self.lane.health().borrow().state
    }
}

/// Lets every task that can go on do so, without time passing.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn error(kind: ErrorKind) -> SinkError {
    SinkError::new(kind, "publish", "scripted")
}

#[tokio::test(start_paused = true)]
async fn what_arrives_during_a_publish_goes_together_in_the_next() {
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new()).gated();
    let lane = start(sink);
    let tickets: Vec<_> = ["a", "b", "c"].iter().map(|id| (lane.submit(id, None), id)).collect();
    settle().await;
    let more = lane.submit("d", None);
    settle().await;
    gate.add_permits(10);
    for (ticket, _) in &tickets {
        assert_eq!(ticket.word().await, "delivered");
    }
    assert_eq!(more.word().await, "delivered");
    assert_eq!(lane.sink.batches(), [vec!["a", "b", "c"], vec!["d"]]);
    assert_eq!(lane.state(), HealthState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_later_event_of_a_group_waits_for_the_earlier_one() {
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new().max_in_flight(4)).gated();
    let lane = start(sink);
    let tickets = [lane.submit("a1", Some(1)), lane.submit("a2", Some(1)), lane.submit("b1", Some(2))];
    settle().await;
    assert_eq!(lane.sink.batches(), [vec!["a1", "b1"]]);
    gate.add_permits(10);
    for ticket in &tickets {
        assert_eq!(ticket.word().await, "delivered");
    }
    assert_eq!(lane.sink.batches(), [vec!["a1", "b1"], vec!["a2"]]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_accepts_a_prefix_gets_a_group_at_once() {
    let lane = start(ScriptedSink::delivering(Capabilities::new().accepts_prefix()));
    let tickets = ["a1", "a2", "a3"].map(|id| lane.submit(id, Some(1)));
    for ticket in &tickets {
        assert_eq!(ticket.word().await, "delivered");
    }
    assert_eq!(lane.sink.batches(), [vec!["a1", "a2", "a3"]]);
}

#[tokio::test(start_paused = true)]
async fn order_survives_retries_within_a_batch() {
    // The first call takes only the first of three; the others come again in their order.
    let sink = ScriptedSink::new(Capabilities::new().accepts_prefix(), |call, batch, report| {
        report.set(0, Outcome::delivered(None));
        for at in 1..batch.len() {
            report.set(
                at,
                if call == 0 {
                    Outcome::retry(error(ErrorKind::Unexpected))
                } else {
                    Outcome::delivered(None)
                },
            );
        }
    });
    let lane = start(sink);
    let tickets = ["a1", "a2", "a3"].map(|id| lane.submit(id, Some(1)));
    settle().await;
    let late = lane.submit("a4", Some(1));
    for ticket in tickets.iter().chain([&late]) {
        assert_eq!(ticket.word().await, "delivered");
    }
    let order: Vec<_> = lane.sink.batches().concat();
    assert_eq!(order, ["a1", "a2", "a3", "a2", "a3", "a4"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_waits_for_its_next_try_delays_only_its_own_group() {
    let sink = ScriptedSink::new(Capabilities::new(), |_, batch, report| {
        for (at, envelope) in batch.iter().enumerate() {
            let bad = envelope.event.id().as_str() == "bad";
            let outcome =
                if bad { Outcome::retry(error(ErrorKind::Unexpected)) } else { Outcome::delivered(None) };
            report.set(at, outcome);
        }
    });
    let lane = start(sink);
    let bad = lane.submit("bad", Some(1));
    let good = [lane.submit("good1", Some(2)), lane.submit("good2", Some(2)), lane.submit("good3", Some(2))];
    settle().await;
    assert_eq!(good.each_ref().map(TestTicket::now), ["delivered"; 3], "no time has passed");
    assert_eq!(bad.now(), "queued");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_nobody_waits_for_is_forgotten() {
    let sink = ScriptedSink::new(Capabilities::new(), |_, _, report| {
        report.set_rest(&Outcome::retry(error(ErrorKind::Unroutable)));
    });
    sink.fail_address_probes(Some(error(ErrorKind::Unroutable)));
    let lane = start(sink);
    let gone = lane.submit("a", None);
    settle().await;
    assert_eq!(lane.state(), HealthState::Degraded);
    gone.withdraw();
    advance(Duration::from_secs(60)).await;
    settle().await;
    let probes = lane.sink.address_probes().len();
    advance(Duration::from_secs(600)).await;
    settle().await;
    assert_eq!(lane.sink.address_probes().len(), probes, "it is not probed for ever");
    assert_eq!(lane.state(), HealthState::Ready);
}

#[tokio::test(start_paused = true)]
async fn batches_keep_to_the_limits_of_the_sink() {
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new().max_batch(2).max_in_flight(2)).gated();
    let lane = start(sink);
    let tickets: Vec<_> = (0..5).map(|id| lane.submit(&format!("e{id}"), None)).collect();
    settle().await;
    assert_eq!(lane.sink.batches(), [vec!["e0", "e1"], vec!["e2", "e3"]], "two in flight and no more");
    gate.add_permits(10);
    for ticket in &tickets {
        assert_eq!(ticket.word().await, "delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_probed_and_then_tried_with_a_single_event() {
    // Call 0 is the window whose answer is lost, calls 1 and 2 are trials that fail, then all is well.
    let sink = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        if call >= 3 {
            report.set_rest(&Outcome::delivered(None));
        } else if call > 0 {
            report.set_rest(&Outcome::maybe_delivered(error(ErrorKind::Timeout)));
        }
    });
    sink.fail_probes(Some(error(ErrorKind::Unavailable)));
    let lane = start(sink);
    let tickets: Vec<_> = (0..4).map(|id| lane.submit(&format!("e{id}"), None)).collect();
    settle().await;
    assert_eq!(lane.sink.batches().len(), 1);
    assert_eq!(lane.state(), HealthState::Down);
    advance(Duration::from_secs(60)).await;
    settle().await;
    assert_eq!(lane.sink.batches().len(), 1, "no event is risked while probes fail");
    assert!(lane.sink.probes() > 0);
    lane.sink.fail_probes(None);
    for ticket in &tickets {
        assert_eq!(ticket.word().await, "delivered");
    }
    let sizes: Vec<_> = lane.sink.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 1, 1, 1, 3], "one window, then single trials until one is answered, then the rest");
    assert_eq!(lane.state(), HealthState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_paused_lane_refuses_new_events_at_once() {
    let sink = ScriptedSink::new(Capabilities::new(), |_, _, report| {
        report.set_rest(&Outcome::retry(error(ErrorKind::Unavailable)));
    });
    sink.fail_probes(Some(error(ErrorKind::Unavailable)));
    let lane = start(sink);
    let first = lane.submit("a", None);
    settle().await;
    assert_eq!(first.now(), "queued");
    let second = lane.submit("b", None);
    settle().await;
    assert_eq!(second.now(), "missing");
}

#[tokio::test(start_paused = true)]
async fn what_its_request_withdrew_is_not_sent() {
    let sink = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        let down = Outcome::retry(error(ErrorKind::Unavailable));
        report.set_rest(&if call == 0 { down } else { Outcome::delivered(None) });
    });
    let lane = start(sink);
    let (kept, withdrawn) = (lane.submit("kept", Some(1)), lane.submit("withdrawn", Some(1)));
    settle().await;
    withdrawn.withdraw();
    assert_eq!(kept.word().await, "delivered");
    assert_eq!(withdrawn.now(), "missing");
    assert!(lane.sink.batches().concat().iter().all(|id| id == "kept"));
    // The group goes on behind it.
    assert_eq!(lane.submit("next", Some(1)).word().await, "delivered");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_missing_is_set_aside_and_the_others_go_on() {
    let sink = ScriptedSink::new(Capabilities::new(), |call, batch, report| {
        for (at, envelope) in batch.iter().enumerate() {
            let missing = call == 0 && envelope.address.get("topic") == Some("gone");
            let outcome =
                if missing { Outcome::retry(error(ErrorKind::Unroutable)) } else { Outcome::delivered(None) };
            report.set(at, outcome);
        }
    });
    sink.fail_address_probes(Some(error(ErrorKind::Unroutable)));
    let lane = start(sink);
    let (gone, good) = (lane.submit_to("g1", None, "gone"), lane.submit("m1", None));
    assert_eq!(good.word().await, "delivered");
    assert_eq!((gone.now(), lane.state()), ("queued", HealthState::Degraded));
    assert_eq!(lane.submit_to("g2", None, "gone").word().await, "missing");
    assert_eq!(lane.submit("m2", None).word().await, "delivered");
    lane.sink.fail_address_probes(None);
    assert_eq!(gone.word().await, "delivered");
    assert_eq!(lane.state(), HealthState::Ready);
    assert!(lane.sink.address_probes().iter().all(|probed| *probed == address("gone")));
}

#[tokio::test(start_paused = true)]
async fn an_address_is_tried_with_a_single_event_whatever_its_metadata_say() {
    // Probes are fine from the beginning, as they are for an exchange with nothing bound to it.
    let sink = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        let unbound = Outcome::retry(error(ErrorKind::Unroutable));
        report.set_rest(&if call < 3 { unbound } else { Outcome::delivered(None) });
    });
    let lane = start(sink);
    let tickets: Vec<_> = (0..5).map(|id| lane.submit(&format!("e{id}"), None)).collect();
    for ticket in &tickets {
        assert_eq!(ticket.word().await, "delivered");
    }
    let sizes: Vec<_> = lane.sink.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [5, 1, 1, 1, 4], "single trials until one arrives, then the rest");
    assert_eq!(lane.state(), HealthState::Ready);
}

#[tokio::test(start_paused = true)]
async fn an_address_goes_on_being_tried_when_its_trial_was_lost_in_an_outage() {
    let sink = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        report.set_rest(&match call {
            0 => Outcome::retry(error(ErrorKind::Unroutable)),
            1 => Outcome::maybe_delivered(error(ErrorKind::Timeout)),
            _ => Outcome::delivered(None),
        });
    });
    let lane = start(sink);
    let tickets: Vec<_> = (0..3).map(|id| lane.submit(&format!("e{id}"), Some(id))).collect();
    for ticket in &tickets {
        assert_eq!(ticket.word().await, "delivered");
    }
    assert_eq!(lane.state(), HealthState::Ready);
}

#[tokio::test(start_paused = true)]
async fn the_sink_and_its_fixed_addresses_are_looked_at_first() {
    let sink = ScriptedSink::delivering(Capabilities::new());
    sink.fail_address_probes(Some(error(ErrorKind::Unroutable)));
    let config = LaneConfig {
        max_events: 10,
        max_bytes: 1 << 20,
        publish_timeout: Duration::from_secs(5),
        places: vec![address("media"), address("other")],
        metrics: Arc::new(SinkMetrics::new("bus".into())),
    };
    let (lane, _running) = Lane::start("bus".into(), Arc::new(sink.clone()), config, None);
    settle().await;
    assert_eq!((sink.probes(), sink.address_probes()), (1, vec![address("media"), address("other")]));
    assert_eq!(lane.health().borrow().state, HealthState::Degraded, "it is known before the first event");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_at_the_start_is_known_to_be() {
    let sink = ScriptedSink::delivering(Capabilities::new());
    sink.fail_probes(Some(error(ErrorKind::Unavailable)));
    let lane = start(sink);
    settle().await;
    assert_eq!(lane.state(), HealthState::Down);
    lane.sink.fail_probes(None);
    advance(Duration::from_secs(60)).await;
    settle().await;
    assert_eq!(lane.submit("a", None).word().await, "delivered");
    assert_eq!(lane.state(), HealthState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_is_rejected_and_its_neighbours_arrive() {
    let sink = ScriptedSink::new(Capabilities::new(), |_, batch, report| {
        for (at, envelope) in batch.iter().enumerate() {
            let poison = envelope.event.id().as_str() == "poison";
            let outcome =
                if poison { Outcome::rejected(error(ErrorKind::TooLarge)) } else { Outcome::delivered(None) };
            report.set(at, outcome);
        }
    });
    let lane = start(sink);
    let tickets = ["a", "poison", "b"].map(|id| lane.submit(id, None));
    assert_eq!(
        [tickets[0].word().await, tickets[1].word().await, tickets[2].word().await],
        ["delivered", "rejected", "delivered"]
    );
    assert_eq!(lane.sink.batches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_for_no_known_reason_is_given_up_after_ten_tries() {
    let sink = ScriptedSink::new(Capabilities::new(), |_, _, report| {
        report.set_rest(&Outcome::retry(error(ErrorKind::Unexpected)));
    });
    let lane = start(sink);
    assert_eq!(lane.submit("a", None).word().await, "rejected");
    assert_eq!(lane.sink.batches().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_counted_towards_the_tries_of_an_event() {
    let sink = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        let outcome = match call {
            0..12 => Outcome::retry(error(ErrorKind::Unavailable)),
            12..21 => Outcome::retry(error(ErrorKind::Unexpected)),
            _ => Outcome::delivered(None),
        };
        report.set_rest(&outcome);
    });
    let lane = start(sink);
    assert_eq!(lane.submit("a", None).word().await, "delivered");
    assert_eq!(lane.sink.batches().len(), 22);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_dropped_at_its_deadline() {
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new()).gated();
    let lane = start(sink);
    let ticket = lane.submit("a", None);
    settle().await;
    let before = Instant::now();
    advance(Duration::from_secs(6)).await;
    settle().await;
    assert_eq!((ticket.now(), lane.state()), ("queued", HealthState::Down));
    assert!(before.elapsed() < Duration::from_secs(7));
    gate.add_permits(10);
    assert_eq!(ticket.word().await, "delivered");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_takes_only_its_batch_down() {
    let sink = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        assert!(call > 0, "scripted panic");
        report.set_rest(&Outcome::delivered(None));
    });
    let lane = start(sink);
    assert_eq!(lane.submit("a", None).word().await, "delivered");
    assert_eq!(lane.submit("b", None).word().await, "delivered");
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_takes_no_more_until_there_is_room() {
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new()).gated();
    let lane = start_with(sink, 2);
    let first = lane.submit("a", None);
    let second = lane.submit("b", None);
    assert_eq!(lane.submit("c", None).now(), "missing");
    gate.add_permits(10);
    assert_eq!((first.word().await, second.word().await), ("delivered", "delivered"));
    settle().await;
    assert_eq!(lane.submit("c", None).word().await, "delivered");
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_what_is_in_flight_and_withdraws_the_rest() {
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new().max_batch(1)).gated();
    let lane = start(sink);
    let (sent, queued) = (lane.submit("a", None), lane.submit("b", None));
    settle().await;
    let stopping = tokio::spawn(lane.running.stop(Instant::now() + Duration::from_secs(3)));
    settle().await;
    assert_eq!(queued.now(), "missing");
    assert!(!lane.sink.is_closed());
    gate.add_permits(1);
    stopping.await.unwrap();
    assert_eq!(sent.now(), "delivered");
    assert!(lane.sink.is_closed());
}
