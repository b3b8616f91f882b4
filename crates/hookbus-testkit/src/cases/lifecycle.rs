//! Probing, and the end of a sink.

use hookbus_core::{Batch, Outcome, Probe, Report};

use crate::{Fixture, Skip, stand::Stand};

/// A probe finds the destination and an address well, and sends no event.
pub async fn a_probe_sends_nothing<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let address = stand.fixture.address(0).await;
    for target in [Probe::Sink, Probe::Address(&address)] {
        let probed = stand.probe(target, stand.late()).await;
        assert!(probed.is_ok(), "all is well, but {target:?} found {probed:?}");
    }
    let there = stand.fixture.read(&address).await;
    assert!(there.is_empty(), "a probe sent {there:?}");
    Ok(())
}

/// Lanes send no empty batch; one that comes all the same does no harm.
pub async fn an_empty_batch_does_no_harm<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let address = stand.fixture.address(0).await;
    assert!(stand.publish(&[], stand.late()).await.is_empty());
    let events = stand.events(&address, "after", 1);
    stand.deliver(&events).await;
    stand.arrived_once(&events).await;
    Ok(())
}

/// A sink may be closed again.
pub async fn closing_twice_does_no_harm<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let address = stand.fixture.address(0).await;
    let events = stand.events(&address, "before", 1);
    stand.deliver(&events).await;
    for time in ["once", "twice"] {
        let late = stand.late();
        let closed = stand.by("closing", late, stand.sink.close(late)).await;
        assert!(closed.is_ok(), "closed {time}: {closed:?}");
    }
    stand.arrived_once(&events).await;
    Ok(())
}

/// A closed sink takes nothing more: whoever closed it believes that nothing is on its way.
pub async fn nothing_is_delivered_after_close<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let address = stand.fixture.address(0).await;
    let late = stand.late();
    let closed = stand.by("closing", late, stand.sink.close(late)).await;
    assert!(closed.is_ok(), "{closed:?}");
    let events = stand.events(&address, "late", 1);
    let (batch, report) = (Batch::new(events.as_slice()), Report::new(1));
    let soon = stand.soon();
    stand.by("a publish", soon, stand.sink.publish(&batch, &report, soon)).await;
    for outcome in report.outcomes() {
        assert!(matches!(outcome, Outcome::Retry { .. }), "after it was closed: {outcome:?}");
    }
    assert_eq!(stand.fixture.read(&address).await.len(), 0, "events arrived after the sink was closed");
    Ok(())
}
