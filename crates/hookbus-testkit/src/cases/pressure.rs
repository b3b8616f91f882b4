//! Many at once, a destination that does not answer, and publishes that are dropped.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use hookbus_core::{Batch, Envelope, Probe, Report};
use tokio::time::{Instant, sleep, timeout_at};

use super::fault::within_a_batch;
use crate::{
    Fault, Fixture, Skip,
    stand::{Stand, is_delivered},
};

/// As many publishes at once as the sink allows lose nothing and confuse nothing.
pub async fn concurrent_publishers_lose_nothing<F: Fixture>() -> Result<(), Skip> {
    let stand = &Stand::<F>::start().await?;
    let address = &stand.fixture.address(0).await;
    let publishers = (0..stand.capabilities.in_flight().min(16)).map(|publisher| async move {
        let events = stand.events(address, &format!("by-{publisher}"), 240);
        for batch in events.chunks(stand.window()) {
            stand.deliver(batch).await;
        }
        events
    });
    let events = all(publishers.map(Box::pin).collect()).await.concat();
    stand.arrived_once(&events).await;
    Ok(())
}

/// Where the destination does not answer, publishes and probes return by their deadlines and claim nothing, before
/// the first connection and after; later the same sink delivers.
pub async fn a_stalled_publish_meets_its_deadline<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (proxy, address) = (stand.fixture.proxy()?, stand.fixture.address(0).await);
    for connection in ["new", "warm"] {
        proxy.inject(Fault::Stall);
        let events = stand.windowful(&address, &format!("stalled-{connection}"));
        let outcomes = stand.publish(&events, stand.soon()).await;
        assert!(!outcomes.iter().any(is_delivered), "nothing was answered, but {outcomes:?}");
        let probed = stand.probe(Probe::Sink, stand.soon()).await;
        assert!(probed.is_err(), "nothing was answered, but the probe says all is well");
        let unresolved = stand.checked(&events, &outcomes).await;
        proxy.restore();
        stand.deliver(&unresolved).await;
        stand.arrived(&events).await;
    }
    Ok(())
}

/// However often a stalled sink is published to, it keeps no more events than may be in flight: a long outage must
/// not fill the memory.
pub async fn a_stalled_sink_holds_no_more_than_its_window<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (proxy, address) = (stand.fixture.proxy()?, stand.fixture.address(0).await);
    proxy.inject(Fault::Stall);
    let mut bodies: Vec<Bytes> = Vec::new();
    for round in 0..4 {
        let events = stand.windowful(&address, &format!("held-{round}"));
        bodies.extend(events.iter().map(|envelope| envelope.event.body().clone()));
        stand.publish(&events, stand.soon()).await;
    }
    // Nobody here has them any more: a body that is shared is held by the sink.
    let window = stand.window() * stand.capabilities.in_flight().min(3);
    let held = bodies.iter().filter(|body| !body.is_unique()).count();
    assert!(held <= window, "the sink holds {held} events of {}, window {window}", bodies.len());
    proxy.restore();
    let events = stand.events(&address, "after", 1);
    stand.deliver(&events).await;
    stand.arrived(&events).await;
    Ok(())
}

/// A publish that is dropped, at whatever point, does the sink no harm, and what it had said stands.
pub async fn a_dropped_publish_does_no_harm<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let address = stand.fixture.address(0).await;
    for polls in 1..=8 {
        let events = stand.windowful(&address, &format!("dropped-{polls}"));
        let (batch, report) = (Batch::new(events.as_slice()), Report::new(events.len()));
        let late = stand.late();
        let polled = polled(stand.sink.publish(&batch, &report, late), polls);
        stand.by("a publish", late, polled).await;
        again(&stand, &events, &report).await;
    }
    if let Ok(proxy) = stand.fixture.proxy() {
        // In the middle of a wait that would have gone on.
        proxy.inject(Fault::Stall);
        let events = stand.windowful(&address, "dropped-while-stalled");
        let (batch, report) = (Batch::new(events.as_slice()), Report::new(events.len()));
        let _ = timeout_at(stand.soon(), stand.sink.publish(&batch, &report, stand.late())).await;
        proxy.restore();
        again(&stand, &events, &report).await;
    }
    Ok(())
}

/// What the destination had confirmed when a publish was dropped is in the report: a sink notes confirmations as they
/// arrive, else a lane that is out of time makes duplicates of all of them.
pub async fn a_dropped_publish_keeps_what_was_confirmed<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (proxy, address) = (stand.fixture.proxy()?, stand.fixture.address(0).await);
    let faults = within_a_batch(&stand, &address, stand.window()).await?;
    let half = faults.into_iter().find(|fault| matches!(fault, Fault::HoldAnswers { .. }));
    proxy.inject(half.expect("it is one of these faults"));
    let events = stand.windowful(&address, "half");
    let (batch, report) = (Batch::new(events.as_slice()), Report::new(events.len()));
    let until = stand.late();
    let some_confirmed = async {
        while !(0..events.len()).any(|at| report.get(at).is_some_and(is_delivered)) {
            assert!(Instant::now() < until, "half of the answers arrived, but the report knows of none");
            sleep(Duration::from_millis(5)).await;
        }
    };
    // The publish has time enough: only the answers that are held back could end it.
    let publish = stand.sink.publish(&batch, &report, until + stand.fixture.patience());
    tokio::select! {
        () = some_confirmed => {}
        () = publish => {}
    }
    proxy.restore();
    assert!(
        (0..events.len()).any(|at| report.get(at).is_some_and(is_delivered)),
        "nothing was confirmed: {report:?}"
    );
    again(&stand, &events, &report).await;
    Ok(())
}

/// Holds a report of a dropped publish against what arrived, and publishes what it leaves open.
async fn again<F: Fixture>(stand: &Stand<F>, events: &[Envelope], report: &Report) {
    let outcomes: Vec<_> = report.outcomes().collect();
    let unresolved = stand.checked(events, &outcomes).await;
    stand.deliver(&unresolved).await;
    stand.arrived(events).await;
}

/// Polls so often and not once more, whatever comes.
async fn polled(future: impl Future<Output = ()>, polls: usize) {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|context| match left {
        0 => Poll::Ready(()),
        _ => {
            left -= 1;
            future.as_mut().poll(context)
        }
    })
    .await;
}

/// Waits for all of them, at once.
async fn all<A: Future + Unpin>(mut futures: Vec<A>) -> Vec<A::Output> {
    let mut done: Vec<Option<A::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(output) = pin!(future).poll(context)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
