//! Another sink for a lane that goes on.

use super::{
    journal::{eventually, stand},
    *,
};
use crate::{
    config::Order,
    lane::{Groups, Next},
};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn with(sink: &ScriptedSink) -> Next {
    Next { sink: Some((Arc::new(sink.clone()), Duration::from_secs(5))), ..Next::default() }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_lands_and_what_waits_goes_to_the_other_sink() {
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new()).gated();
    let lane = start(sink);
    let first = lane.submit("a1", Some(1));
    settle().await;
    let later = [lane.submit("a2", Some(1)), lane.submit("b1", None)];
    let settling = lane.lane.settle(soon(), true);
    tokio::pin!(settling);
    assert!(futures_now(&mut settling).await.is_none(), "a batch is in flight");
    gate.add_permits(1);
    let settled = settling.await.unwrap();
    assert_eq!(first.word().await, "delivered");
    assert!(lane.sink.is_closed());
    // Nothing is sent, and nothing is refused.
    let meanwhile = lane.submit("a3", Some(1));
    settle().await;
    assert_eq!(lane.sink.batches(), [vec!["a1"]]);
    let other = ScriptedSink::delivering(Capabilities::new());
    settled.go_on(with(&other));
    for ticket in later.iter().chain([&meanwhile]) {
        assert_eq!(ticket.word().await, "delivered");
    }
    let sent = other.batches().concat();
    assert!(sent.iter().position(|id| id == "a2") < sent.iter().position(|id| id == "a3"), "{sent:?}");
    assert_eq!((sent.len(), lane.sink.batches().len()), (3, 1));
    assert_eq!(lane.state(), HealthState::Ready);
}

/// What it comes to without waiting for anything but other tasks.
async fn futures_now<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = settle() => None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_cut_off_and_goes_to_the_other_sink() {
    // Nobody opens the gate.
    let (sink, _gate) = ScriptedSink::delivering(Capabilities::new()).gated();
    let lane = stand(sink);
    lane.append("a1", "m", "t");
    lane.append("a2", "m", "t");
    settle().await;
    advance(Duration::from_millis(2)).await;
    settle().await;
    let begun = Instant::now();
    let settled = lane.lane.settle(begun + Duration::from_secs(1), true).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(lane.unresolved(), 2);
    let other = ScriptedSink::delivering(Capabilities::new());
    settled.go_on(with(&other));
    eventually("both are resolved", || lane.unresolved() == 0).await;
    assert_eq!(other.batches().concat(), ["a1", "a2"], "in order");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_was_set_aside_is_tried_anew() {
    let refused = SinkError::new(ErrorKind::Unroutable, "publish", "scripted");
    let answer = refused.clone();
    let sink = ScriptedSink::new(Capabilities::new(), move |_, _, report| {
        report.set_rest(&Outcome::retry(answer.clone()));
    });
    sink.fail_address_probes(Some(refused));
    let lane = stand(sink);
    for id in ["a1", "a2", "a3"] {
        lane.append(id, "m", "t");
    }
    eventually("it is set aside", || lane.state() == HealthState::Degraded).await;
    let settled = lane.lane.settle(soon(), true).await.unwrap();
    let other = ScriptedSink::delivering(Capabilities::new());
    settled.go_on(with(&other));
    eventually("all are resolved", || lane.unresolved() == 0).await;
    assert_eq!(other.batches().concat(), ["a1", "a2", "a3"], "in order");
    assert_eq!(lane.state(), HealthState::Ready);
}

#[tokio::test(start_paused = true)]
async fn without_another_sink_it_goes_on_with_its_own_in_other_groups() {
    let (sink, gate) = ScriptedSink::delivering(Capabilities::new().max_in_flight(8)).gated();
    let lane = stand(sink);
    gate.add_permits(1);
    lane.append("a1", "a", "t");
    eventually("it is sent", || lane.unresolved() == 0).await;
    let settled = lane.lane.settle(soon(), false).await.unwrap();
    for (id, subject) in [("a2", "a"), ("b1", "b")] {
        lane.append(id, subject, "t");
    }
    let groups = Arc::new(Groups::new([(Arc::from("fastpix"), Order::Source)]));
    lane.groups.set([(Arc::from("fastpix"), Order::Source)]);
    settled.go_on(Next { regroup: Some(groups), ..Next::default() });
    settle().await;
    advance(Duration::from_millis(2)).await;
    settle().await;
    assert_eq!(lane.sent(), ["a1", "a2"], "the other one is of the same group now");
    assert!(!lane.sink.is_closed());
    gate.add_permits(2);
    eventually("all are resolved", || lane.unresolved() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_cut_off_is_made_again() {
    let sink = ScriptedSink::new(Capabilities::new(), |call, _, report| {
        let unavailable = SinkError::new(ErrorKind::Unavailable, "publish", "scripted");
        report.set_rest(&if call == 0 { Outcome::retry(unavailable) } else { Outcome::delivered(None) });
    });
    let lane = stand(sink);
    eventually("its first look is over", || lane.state() == HealthState::Ready).await;
    lane.sink.hang_probes(true);
    lane.append("a1", "m", "t");
    eventually("it is probed", || lane.sink.probes() == 2).await;
    lane.sink.hang_probes(false);
    let settled = lane.lane.settle(soon(), false).await.unwrap();
    settled.go_on(Next { regroup: Some(Arc::clone(&lane.groups)), ..Next::default() });
    eventually("it arrives", || lane.unresolved() == 0).await;
    assert_eq!(lane.state(), HealthState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_first_look_that_is_cut_off_is_made_again() {
    let sink = ScriptedSink::delivering(Capabilities::new());
    sink.hang_probes(true);
    let lane = stand(sink);
    eventually("it is looked at", || lane.sink.probes() == 1).await;
    lane.sink.hang_probes(false);
    lane.lane.settle(soon(), false).await.unwrap().go_on(Next::default());
    eventually("it is ready", || lane.state() == HealthState::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_nobody_tells_how_to_go_on_goes_on_as_it_was() {
    let lane = start(ScriptedSink::delivering(Capabilities::new()));
    drop(lane.lane.settle(soon(), false).await.unwrap());
    assert_eq!(lane.submit("a", None).word().await, "delivered");
    lane.running.stop(soon()).await;
    assert!(lane.lane.settle(soon(), true).await.is_none(), "it has ended");
}
