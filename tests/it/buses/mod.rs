//! One bridge, one route, three buses: what was accepted is on each of them once, byte for byte, and can be verified
//! again there by somebody else's code.
//!
//! The buses are read by the examples of consumers, which know nothing of the bridge but the documented layout.

mod consumer;
mod distrust;
mod golden;
mod layout;
mod places;

use std::{
    collections::HashMap,
    io::{self, Write as _},
    mem,
    time::Instant,
};

use sha2::{Digest as _, Sha256};

use self::{
    consumer::Consumed,
    layout::{Attributes, attributes, check},
    places::Places,
};
use crate::{
    corpus::event,
    load::{CONNECTIONS, send_all},
    support::{Bridge, Provider, in_company, number_of},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bus_has_each_accepted_event_once_and_no_forged_one() {
    let Some(places) = Places::make().await else { return };
    let _in_company = in_company().await;
    let count = number_of("HOOKBUS_TEST_BUSES", 2_000).next_multiple_of(10);
    let mut bridge = places.bridge().await;
    let begun = Instant::now();
    let tally = send_all(bridge.address(), count).await;
    let took = begun.elapsed();
    assert_eq!((tally.accepted, tally.refused), (count / 10 * 9, count / 10));
    bridge.stop().await;
    assert!(bridge.dead_letters().is_empty(), "{:?}", bridge.dead_letters());

    let mut numbers: HashMap<[u8; 32], u64> = HashMap::new();
    for number in 0..count {
        let event = event(number);
        numbers.insert(digest(event.provider, &event.body), number);
    }
    // What the first bus shows of each event: the others must show the same.
    let mut shown: HashMap<u64, Attributes> = HashMap::new();
    let mut read = String::new();
    for bus in &places.buses {
        let (kind, begun) = (bus.kind(), Instant::now());
        let mut there = vec![false; usize::try_from(count).unwrap()];
        let each = |consumed: Consumed| {
            let found = attributes(kind, &consumed);
            let provider = Provider::ALL.into_iter().find(|provider| found["source"] == provider.path());
            let number = numbers.get(&digest(provider.unwrap(), &consumed.body));
            let number = *number.unwrap_or_else(|| panic!("{kind}: nobody sent this: {found:?}"));
            let event = event(number);
            assert!(event.forgery.is_none(), "{kind}: number {number} is forged: {found:?}");
            assert!(!mem::replace(&mut there[number as usize], true), "{kind}: number {number} twice");
            check(kind, number, &event, &consumed, &found);
            assert_eq!(*shown.entry(number).or_insert_with(|| found.clone()), found, "{kind}");
        };
        places.consumer(bus).read(each).await;
        let count = there.iter().filter(|there| **there).count();
        assert_eq!(count as u64, tally.accepted, "{kind}: events are missing");
        read += &format!(", {kind} {count} in {:.1} s", begun.elapsed().as_secs_f64());
    }
    places.remove().await;
    // Past the capture of the test harness: these are the figures.
    let _ = writeln!(
        io::stderr(),
        "buses: {count} requests in {:.1} s over {CONNECTIONS} connections: {} answered 200, {} answered 401; read \
         back by the consumers, each event once, byte for byte, authentic{read}",
        took.as_secs_f64(),
        tally.accepted,
        tally.refused,
    );
}

/// What tells a body from every other.
fn digest(provider: Provider, body: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(provider.name()).chain_update([0]).chain_update(body).finalize().into()
}

/// Has the bridge take an event.
async fn send(bridge: &Bridge, provider: Provider, body: &[u8]) {
    let answer = bridge.connect().await.ask(&provider.request(body)).await;
    assert_eq!(answer.taken(), "accepted");
}
