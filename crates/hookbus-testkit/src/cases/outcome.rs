//! Each event has its own outcome, and a bad one costs its neighbours nothing.

use hookbus_core::{Address, Envelope, ErrorKind, Instant, Outcome, Probe, SinkError};

use crate::{
    Fixture, Skip, TestEvent,
    stand::{Stand, is_delivered, pause},
};

/// Every event of a batch has its outcome when the publish returns: silence counts as a failure of its lane's time.
pub async fn each_event_has_its_outcome<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let events =
        stand.events(&stand.fixture.address(0).await, "each", stand.capabilities.batch_events().min(50));
    let outcomes = stand.publish(&events, stand.late()).await;
    assert!(outcomes.iter().all(is_delivered), "all is well, but {outcomes:?}");
    stand.arrived_once(&events).await;
    Ok(())
}

/// Positions, where the destination tells them, are never told twice, and increase within a group.
pub async fn positions_increase<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let mut left = stand.grouped(&stand.fixture.address(0).await, "at", 40, 1);
    let mut positions: Vec<Vec<Part>> = Vec::new();
    while !left.is_empty() {
        let batch = stand.batch(&mut left);
        for outcome in stand.publish(&batch, stand.late()).await {
            match outcome {
                Outcome::Delivered { position: Some(position), .. } => {
                    positions.push(parts(&position.to_string()));
                }
                Outcome::Delivered { position: None, .. } => {
                    return Err(Skip::new("the sink tells no positions"));
                }
                outcome => panic!("all is well, but {outcome:?}"),
            }
        }
    }
    for two in positions.windows(2) {
        assert!(two[0] < two[1], "{:?} is followed by {:?}", two[0], two[1]);
    }
    Ok(())
}

/// A body of exactly the limit is taken.
pub async fn the_largest_body_is_taken<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let address = stand.fixture.address(0).await;
    let largest = stand.fixture.largest_body(&sized(&address, "fit", 200))?;
    let events = [sized(&address, "fit", largest)];
    let outcomes = stand.publish(&events, stand.late()).await;
    assert!(is_delivered(&outcomes[0]), "a body of exactly {largest} bytes: {outcomes:?}");
    stand.arrived_once(&events).await;
    Ok(())
}

/// A body one byte larger is rejected as too large, and its neighbours in the batch are delivered.
pub async fn a_larger_body_is_rejected_alone<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let address = stand.fixture.address(0).await;
    let largest = stand.fixture.largest_body(&sized(&address, "big", 200))?;
    let mut events = stand.events(&address, "neighbour", 4);
    events.insert(2, sized(&address, "big", largest + 1));
    check_mixed(&stand, events, |envelope| {
        (envelope.event.id().as_str() == "big").then_some(ErrorKind::TooLarge)
    })
    .await;
    Ok(())
}

/// An address that is missing fails its own events, by a kind that says so; those for other addresses are delivered.
pub async fn a_missing_address_is_charged_alone<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let missing = stand.fixture.missing().await?;
    let mut events = stand.events(&stand.fixture.address(0).await, "neighbour", 4);
    events.insert(2, stand.events(&missing, "lost", 1).remove(0));
    check_mixed(&stand, events, |envelope| (envelope.address == missing).then_some(ErrorKind::Unroutable))
        .await;
    Ok(())
}

/// A probe says when a missing address is there, and then it takes events.
pub async fn a_mended_address_is_taken<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let missing = stand.fixture.missing().await?;
    let probed = stand.probe(Probe::Address(&missing), stand.late()).await;
    let kind = probed.as_ref().map_err(SinkError::kind);
    assert_eq!(kind.err(), Some(ErrorKind::Unroutable), "a probe of a missing address: {probed:?}");
    let whole = stand.probe(Probe::Sink, stand.late()).await;
    assert!(whole.is_ok(), "one bad address is no trouble of the whole sink, but its probe says {whole:?}");
    stand.fixture.mend(&missing).await?;
    let until = stand.late();
    while let Err(error) = stand.probe(Probe::Address(&missing), stand.late()).await {
        assert!(Instant::now() < until, "the address is mended, but its probe says {error}");
        pause().await;
    }
    let events = stand.events(&missing, "mended", 3);
    stand.deliver(&events).await;
    stand.arrived(&events).await;
    Ok(())
}

/// Among many, each bad event is charged with its own fault and each good one is delivered.
pub async fn mixed_failures_charge_the_right_events<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let (good, missing) = (stand.fixture.address(0).await, stand.fixture.missing().await);
    let largest = stand.fixture.largest_body(&sized(&good, "big-00", 200));
    if let (Err(one), Err(other)) = (&missing, &largest) {
        return Err(Skip::new(format!("{one}; {other}")));
    }
    let mut events = Vec::new();
    for (n, event) in stand.events(&good, "good", 30).into_iter().enumerate() {
        events.push(event);
        // Few of the large ones, so that they share a batch with others.
        if let (Ok(largest), 0) = (&largest, n % 10) {
            events.push(sized(&good, &format!("big-{n:02}"), largest + 1));
        }
        if let (Ok(missing), 0 | 1) = (&missing, n % 3) {
            events.extend(stand.events(missing, &format!("lost-{n}"), 1 + n % 2));
        }
    }
    check_mixed(&stand, events, |envelope| {
        let is_big = envelope.event.id().as_str().starts_with("big");
        let is_lost = missing.as_ref().is_ok_and(|missing| *missing == envelope.address);
        is_big.then_some(ErrorKind::TooLarge).or(is_lost.then_some(ErrorKind::Unroutable))
    })
    .await;
    Ok(())
}

/// Publishes good and bad events together until all good ones are delivered, as some destinations break off on a bad
/// one. `fault` says what must be wrong with an event; nothing else may be said of it that ends its tries.
async fn check_mixed<F: Fixture>(
    stand: &Stand<F>,
    mut left: Vec<Envelope>,
    fault: impl Fn(&Envelope) -> Option<ErrorKind>,
) {
    let good: Vec<_> = left.iter().filter(|envelope| fault(envelope).is_none()).cloned().collect();
    let (until, mut maybe) = (stand.late(), 0);
    while !left.is_empty() {
        pause().await;
        let batch = stand.batch(&mut left);
        let outcomes = stand.publish(&batch, stand.late()).await;
        for (envelope, outcome) in batch.into_iter().zip(outcomes) {
            let (id, fault) = (envelope.event.id(), fault(&envelope));
            match (outcome, fault) {
                (Outcome::Delivered { .. }, None) => {}
                (Outcome::Delivered { .. }, Some(fault)) => panic!("`{id}` is {fault:?} and was delivered"),
                (Outcome::Rejected { error, .. } | Outcome::Retry { error, .. }, Some(fault))
                    if error.kind() == fault => {}
                (Outcome::Rejected { error, .. }, _) => panic!("`{id}` was rejected: {error}"),
                (Outcome::Retry { error, .. }, None) if error.kind() == ErrorKind::Unroutable => {
                    panic!("`{id}` was charged with an address that is not its own: {error}")
                }
                (Outcome::Retry { error, maybe_delivered, .. }, _) => {
                    assert!(Instant::now() < until, "`{id}` is retried for ever: {error}");
                    maybe += usize::from(maybe_delivered);
                    left.push(envelope);
                }
                (outcome, _) => panic!("the kit does not know {outcome:?}"),
            }
        }
    }
    let there = stand.arrived(&good).await;
    let more = there.len() - good.len();
    assert!(more <= maybe, "{more} duplicates, of which {maybe} could be foreseen");
}

fn sized(address: &Address, id: &str, length: usize) -> Envelope {
    Envelope::new(TestEvent::new("fastpix").id(id).length(length).build(), address.clone())
}

/// A run of digits or of other characters, so that positions compare as people read them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u128),
    Text(String),
}

fn parts(position: &str) -> Vec<Part> {
    let is_digit = |at: &char| at.is_ascii_digit();
    let mut parts = Vec::new();
    let mut rest = position;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|at| is_digit(&at) != is_digit(&first)).unwrap_or(rest.len());
        let part = rest[..end].parse().map(Part::Number);
        parts.push(part.unwrap_or_else(|_| Part::Text(rest[..end].to_owned())));
        rest = &rest[end..];
    }
    parts
}
