//! Connections and destinations that fail: nothing is lost, nothing is claimed, and the sink recovers by itself.

use std::time::Duration;

use hookbus_core::{Address, Envelope, Instant, Outcome, Probe, RetryClass, SinkError};

use crate::{
    Direction::{ToDestination, ToSink},
    Fault, Fixture, Skip,
    stand::{Stand, is_delivered, pause},
};

/// A sink opens while its destination cannot be reached, and delivers once it can.
pub async fn a_sink_opens_without_its_destination<F: Fixture>() -> Result<(), Skip> {
    let fixture = F::start().await?;
    let address = fixture.address(0).await;
    fixture.proxy()?.inject(Fault::Cut);
    let stand = Stand::of(fixture).await;
    stand.fixture.proxy()?.restore();
    let events = stand.events(&address, "first", 1);
    stand.deliver(&events).await;
    stand.arrived(&events).await;
    Ok(())
}

/// While the destination cannot be reached, every event is to be retried and the whole sink is to blame, by the
/// deadline; once it can be reached again, the same sink delivers.
pub async fn a_cut_destination_is_waited_for<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (proxy, address) = (stand.fixture.proxy()?, stand.fixture.address(0).await);
    stand.deliver(&stand.events(&address, "before", 1)).await;
    proxy.inject(Fault::Cut);
    let events = stand.windowful(&address, "during");
    away(&stand, &events).await;
    away(&stand, &events).await;
    proxy.restore();
    stand.deliver(&events).await;
    stand.arrived(&events).await;
    Ok(())
}

/// A destination that is stopped and started again is found again, with all it had confirmed.
pub async fn a_restarted_destination_is_found_again<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let address = stand.fixture.address(0).await;
    let before = stand.windowful(&address, "before");
    stand.deliver(&before).await;
    stand.fixture.gone().await?;
    let during = stand.windowful(&address, "during");
    away(&stand, &during).await;
    stand.fixture.back().await;
    stand.deliver(&during).await;
    stand.arrived(&[before, during].concat()).await;
    Ok(())
}

/// Where the destination took events and its answers were lost, none is delivered and each that arrived may be.
pub async fn what_was_not_answered_may_be_delivered<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (proxy, address) = (stand.fixture.proxy()?, stand.fixture.address(0).await);
    stand.deliver(&stand.events(&address, "before", 1)).await;
    proxy.inject(Fault::LoseAnswers);
    let events = stand.windowful(&address, "unanswered");
    let until = stand.late();
    // As soon as the destination has something, the connection is cut: sent, and never answered.
    let something_arrived = async {
        while !stand.there(&events).await.values().flatten().any(|found| found.id().starts_with("unanswered"))
        {
            assert!(Instant::now() < until, "nothing was sent");
            pause().await;
        }
        proxy.inject(Fault::Cut);
    };
    let deadline = Instant::now() + stand.fixture.patience() / 6;
    let (outcomes, ()) = tokio::join!(stand.publish(&events, deadline), something_arrived);
    assert!(!outcomes.iter().any(is_delivered), "nothing was confirmed, but {outcomes:?}");
    let unresolved = stand.checked(&events, &outcomes).await;
    proxy.restore();
    stand.deliver(&unresolved).await;
    let arrived = stand.arrived(&events).await;
    let arrived = arrived.iter().filter(|found| found.id().starts_with("unanswered")).count();
    assert!(arrived <= 2 * events.len(), "{arrived} arrived of {}: more than one window", events.len());
    Ok(())
}

/// Wherever within a batch a connection breaks, on the way there or back: what is said to be delivered is there, and
/// nothing is lost once the rest is published again. Duplicates are allowed, one window of them.
pub async fn cuts_within_a_batch_lose_nothing<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (proxy, address) = (stand.fixture.proxy()?, stand.fixture.address(0).await);
    let faults = within_a_batch(&stand, &address, stand.window()).await?;
    for (n, fault) in faults.into_iter().enumerate() {
        proxy.inject(fault);
        survive(&stand, &format!("cut-{n}"), &address).await;
    }
    Ok(())
}

/// A connection of which one direction has ended is not relied on, and left.
pub async fn half_closed_connections_are_left<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (proxy, address) = (stand.fixture.proxy()?, stand.fixture.address(0).await);
    for direction in [ToSink, ToDestination] {
        stand.deliver(&stand.events(&address, "before", 1)).await;
        proxy.inject(Fault::HalfClose(direction));
        survive(&stand, &format!("half-{direction:?}"), &address).await;
    }
    Ok(())
}

/// A slow connection delivers.
pub async fn delayed_connections_deliver<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (proxy, address) = (stand.fixture.proxy()?, stand.fixture.address(0).await);
    proxy.inject(Fault::Delay(Duration::from_millis(50)));
    let events = stand.windowful(&address, "slow");
    stand.deliver(&events).await;
    stand.arrived(&events).await;
    Ok(())
}

/// Answers that make no sense are no confirmation and no refusal, and the sink recovers from them.
pub async fn corrupted_answers_are_not_believed<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (proxy, address) = (stand.fixture.proxy()?, stand.fixture.address(0).await);
    stand.deliver(&stand.events(&address, "before", 1)).await;
    proxy.inject(Fault::CorruptAnswers);
    let outcomes = survive(&stand, "corrupt", &address).await;
    assert!(!outcomes.iter().any(is_delivered), "no answer made sense, but {outcomes:?}");
    Ok(())
}

/// What can go wrong within a batch of so many groups at this address, measured by one that goes well.
pub(super) async fn within_a_batch<F: Fixture>(
    stand: &Stand<F>,
    address: &Address,
    groups: usize,
) -> Result<Vec<Fault>, Skip> {
    let proxy = stand.fixture.proxy()?;
    // Connected first, so that what is measured is the batch alone.
    stand.deliver(&stand.events(address, "before", 1)).await;
    let before = [proxy.bytes(ToDestination), proxy.bytes(ToSink)];
    let batch = stand.batch(&mut stand.grouped(address, "measured", stand.window(), groups));
    let outcomes = stand.publish(&batch, stand.late()).await;
    assert!(outcomes.iter().all(is_delivered), "all is well, but {outcomes:?}");
    let [sent, answered] = [proxy.bytes(ToDestination) - before[0], proxy.bytes(ToSink) - before[1]];
    assert!(sent > 0 && answered > 0, "the sink does not use the fixture's proxy");
    Ok(vec![
        Fault::CutAfter(ToDestination, sent / 4),
        Fault::CutAfter(ToDestination, sent / 2),
        Fault::CutAfter(ToDestination, sent - 1),
        Fault::CutAfter(ToSink, 0),
        Fault::CutAfter(ToSink, answered / 2),
        Fault::CutAfter(ToSink, answered - 1),
        Fault::HoldAnswers { after: answered / 2 },
        Fault::Stall,
    ])
}

/// Publishes a batch while something is wrong, lets all be well again, and publishes the rest until all has arrived.
/// Returns what was said first.
async fn survive<F: Fixture>(stand: &Stand<F>, name: &str, address: &Address) -> Vec<Outcome> {
    let events = stand.windowful(address, name);
    let outcomes = stand.publish(&events, stand.soon()).await;
    if let Ok(proxy) = stand.fixture.proxy() {
        proxy.restore();
    }
    let unresolved = stand.checked(&events, &outcomes).await;
    let again = stand.deliver(&unresolved).await;
    let arrived = stand.arrived(&events).await;
    let arrived = arrived.iter().filter(|found| found.id().starts_with(name)).count();
    // What the driver sent again by itself is a window at most, and so is what is published again.
    let allowed = 2 * events.len() + again;
    assert!(arrived <= allowed, "{arrived} arrived of {}: more than one window of duplicates", events.len());
    outcomes
}

/// The destination is away: every event is to be retried, the whole sink is to blame, and a probe says so too.
async fn away<F: Fixture>(stand: &Stand<F>, events: &[Envelope]) {
    for outcome in stand.publish(events, stand.soon()).await {
        match outcome {
            Outcome::Retry { error, .. } if error.retry_class() == RetryClass::Sink => {}
            outcome => panic!("the destination is away, but {outcome:?}"),
        }
    }
    let probed = stand.probe(Probe::Sink, stand.soon()).await;
    let class = probed.as_ref().map_err(SinkError::retry_class);
    assert_eq!(class.err(), Some(RetryClass::Sink), "the destination is away, but a probe says {probed:?}");
}
