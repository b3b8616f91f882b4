//! Events of a group stay in order, whatever happens: a consumer believes the last one.

use std::collections::BTreeMap;

use hookbus_core::Envelope;

use super::fault::within_a_batch;
use crate::{
    Fixture, Observed, Skip,
    stand::{Stand, has},
};

/// Groups whose events take turns in a batch.
const GROUPS: usize = 3;

/// Events of groups that are published one batch after the other arrive in that order.
pub async fn order_holds_across_batches<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let events = stand.grouped(&stand.fixture.address(0).await, "next", 60, GROUPS);
    // One event of each group at a time, also where the sink would take more.
    for batch in events.chunks(GROUPS) {
        stand.deliver(batch).await;
    }
    assert_in_order(&stand.arrived_once(&events).await, &events);
    Ok(())
}

/// Events of groups that come in one batch arrive in its order.
pub async fn order_holds_within_a_batch<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    takes_prefix(&stand)?;
    let events = stand.grouped(&stand.fixture.address(0).await, "same", 300, GROUPS);
    stand.deliver(&events).await;
    assert_in_order(&stand.arrived_once(&events).await, &events);
    Ok(())
}

/// Where a connection breaks or stalls within a batch, and what is unresolved is published again as lanes do, each
/// group's events first arrive in order and none is missing.
pub async fn order_holds_under_faults<F: Fixture>() -> Result<(), Skip> {
    through_faults::<F>(&Stand::start().await?, |_, _| {}).await
}

/// After a failure within a batch, no later event of its group was accepted: lanes rely on it when they hand over
/// several events of a group at once.
pub async fn a_batch_is_accepted_up_to_its_first_failure<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    takes_prefix(&stand)?;
    through_faults(&stand, |batch, arrived| {
        let mut failed = BTreeMap::new();
        for (envelope, arrived) in batch.iter().zip(arrived) {
            let first = failed.get(&envelope.group());
            match (arrived, first) {
                (true, Some(first)) => {
                    panic!(
                        "`{}` was accepted, but `{first}` of its group before it was not",
                        envelope.event.id()
                    )
                }
                (false, None) => {
                    failed.insert(envelope.group(), envelope.event.id().clone());
                }
                _ => {}
            }
        }
    })
    .await
}

fn takes_prefix<F: Fixture>(stand: &Stand<F>) -> Result<(), Skip> {
    if stand.capabilities.takes_prefix() {
        Ok(())
    } else {
        Err(Skip::new("the sink does not accept a prefix"))
    }
}

/// Lets each fault hit a batch, then tries again until all has arrived. `look` sees what had arrived in between: for
/// each event of the batch whether it had.
async fn through_faults<F: Fixture>(
    stand: &Stand<F>,
    look: impl Fn(&[Envelope], &[bool]),
) -> Result<(), Skip> {
    let proxy = stand.fixture.proxy()?;
    let address = stand.fixture.address(0).await;
    for (n, fault) in within_a_batch(stand, &address, GROUPS).await?.into_iter().enumerate() {
        let events = stand.grouped(&address, &format!("fault-{n}"), stand.window(), GROUPS);
        let mut left = events.clone();
        let batch = stand.batch(&mut left);
        proxy.inject(fault);
        let outcomes = stand.publish(&batch, stand.soon()).await;
        let there = stand.there(&batch).await;
        look(&batch, &batch.iter().map(|envelope| has(&there, envelope)).collect::<Vec<_>>());
        proxy.restore();
        let mut again = stand.checked(&batch, &outcomes).await;
        again.append(&mut left);
        stand.deliver(&again).await;
        assert_in_order(&stand.arrived(&events).await, &events);
    }
    Ok(())
}

/// The first arrivals of each group's events are in the order they were sent in.
fn assert_in_order(arrived: &[Observed], sent: &[Envelope]) {
    let mut groups: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for envelope in sent {
        groups.entry(envelope.group()).or_default().push(envelope.event.id().as_str());
    }
    for sent in groups.values() {
        let mut first: Vec<&str> = Vec::new();
        for id in arrived.iter().map(Observed::id) {
            if sent.contains(&id) && !first.contains(&id) {
                first.push(id);
            }
        }
        assert_eq!(&first, sent, "the order in which events of a group first arrived");
    }
}
