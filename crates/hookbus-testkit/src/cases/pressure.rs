//! Many at once, a destination that does not answer, and publishes that are dropped.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use hookbus_core::{Batch, Envelope, Instant, Probe, Report};
use tokio::{task::JoinSet, time::timeout_at};

use crate::{
    Direction::ToSink,
    Fault, Fixture, Skip,
    stand::{Stand, is_delivered, pause},
};

/// Addresses that one batch is spread over.
const ADDRESSES: usize = 4;

/// As many publishes at once as the sink allows lose nothing and confuse nothing.
pub async fn concurrent_publishers_lose_nothing<F: Fixture>() -> Result<(), Skip> {
    let stand = Arc::new(Stand::<F>::start().await?);
    let address = stand.fixture.address(0).await;
    let mut publishers = JoinSet::new();
    for publisher in 0..stand.capabilities.in_flight().min(16) {
        let (stand, address) = (Arc::clone(&stand), address.clone());
        publishers.spawn(async move {
            let events = stand.events(&address, &format!("by-{publisher}"), 240);
            for batch in events.chunks(stand.window()) {
                stand.deliver(batch).await;
            }
            events
        });
    }
    let events = publishers.join_all().await.concat();
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
    let proxy = stand.fixture.proxy()?;
    // Over some addresses, because a destination may confirm all of one address in one answer.
    let mut addresses = Vec::new();
    for n in 0..ADDRESSES {
        addresses.push(stand.fixture.address(n).await);
    }
    let spread = |name: &str| -> Vec<_> {
        let share = stand.window().div_ceil(ADDRESSES);
        let each = addresses.iter().enumerate();
        each.flat_map(|(n, address)| stand.events(address, &format!("{name}-{n}"), share))
            .take(stand.window())
            .collect()
    };
    stand.deliver(&spread("before")).await;
    let before = proxy.bytes(ToSink);
    let outcomes = stand.publish(&spread("measured"), stand.late()).await;
    assert!(outcomes.iter().all(is_delivered), "all is well, but {outcomes:?}");
    proxy.inject(Fault::HoldAnswers { after: (proxy.bytes(ToSink) - before) / 2 });
    let events = spread("half");
    let (batch, report) = (Batch::new(events.as_slice()), Report::new(events.len()));
    let until = stand.late();
    let some_confirmed = async {
        while !(0..events.len()).any(|at| report.get(at).is_some_and(is_delivered)) {
            assert!(Instant::now() < until, "half of the answers arrived, but the report knows of none");
            pause().await;
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
