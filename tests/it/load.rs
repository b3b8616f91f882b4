//! Many requests at once, a tenth of them forged: what is answered 200 is on disk byte for byte, and nothing
//! else.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::task::JoinSet;

use crate::{
    corpus::event,
    support::{Bridge, Client, Memory, Provider, Setup, alone, number_of},
};

/// Connections that send, each kept alive.
pub(crate) const CONNECTIONS: usize = 64;

/// How many requests were answered how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_body_is_on_disk_byte_for_byte_and_no_forged_one() {
    let _alone = alone().await;
    let count = number_of("HOOKBUS_TEST_LOAD", 5_000).next_multiple_of(10);
    let bridge = Bridge::start(Setup::default()).await;
    let memory = Memory::before(&bridge);
    let begun = Instant::now();
    let sum = send_all(bridge.address(), count).await;
    let took = begun.elapsed();
    assert_eq!(sum, Tally { accepted: count / 10 * 9, refused: count / 10 });

    let mut lines = 0;
    for provider in Provider::ALL {
        lines += compare(&bridge, provider, count);
    }
    assert_eq!(lines, count / 10 * 9);
    eprintln!(
        "load: {count} requests in {:.1} s over {CONNECTIONS} connections: {} answered 200, {} answered 401, \
         {lines} lines written, each of them one of the accepted bodies, byte for byte",
        took.as_secs_f64(),
        sum.accepted,
        sum.refused,
    );
    // Bodies in flight, what the lane holds, and the memory of recent events.
    memory.check(&bridge, "load", (16 + 32) << 20);
}

/// Sends so many events of the corpus over all connections, and checks each answer.
pub(crate) async fn send_all(address: SocketAddr, count: u64) -> Tally {
    let next = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..CONNECTIONS {
        senders.spawn(send(address, Arc::clone(&next), count));
    }
    let mut sum = Tally::default();
    while let Some(tally) = senders.join_next().await {
        let tally = tally.unwrap();
        sum.accepted += tally.accepted;
        sum.refused += tally.refused;
    }
    sum
}

/// Sends events until there are no more, and checks each answer.
async fn send(address: SocketAddr, next: Arc<AtomicU64>, count: u64) -> Tally {
    let mut tally = Tally::default();
    let mut client = Client::connect(address).await.unwrap();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return tally;
        }
        let event = event(number);
        let response = client.ask(&event.request()).await;
        match event.forgery {
            None => {
                assert_eq!(response.taken(), "accepted", "number {number}, {event:?}");
                tally.accepted += 1;
            }
            Some(forgery) => {
                assert_eq!(response.problem(401), forgery.reason(), "number {number}, {event:?}");
                tally.refused += 1;
            }
        }
        // A refusal does not read a long body to its end.
        if response.is_last() {
            client = Client::connect(address).await.unwrap();
        }
    }
}

/// Compares what was written for a source with what was accepted, and returns how many lines there are.
fn compare(bridge: &Bridge, provider: Provider, count: u64) -> u64 {
    let events = (0..count).map(|number| (number, event(number)));
    let events = events.filter(|(_, event)| event.provider == provider);
    // The number of each body, and whether it was to be refused.
    let mut sent: HashMap<Vec<u8>, (u64, bool)> =
        events.map(|(number, event)| (event.body, (number, event.forgery.is_some()))).collect();
    let written = bridge.written(provider.name());
    for line in &written {
        let shown = || String::from_utf8_lossy(&line.body).into_owned();
        let Some((number, forged)) = sent.remove(&line.body) else {
            panic!("{provider:?}: nobody sent this, or it was written twice: {}", shown());
        };
        assert!(!forged, "{provider:?}: number {number} was forged and is on disk: {}", shown());
        // What a consumer needs to verify it again is there.
        assert_eq!(line.proof[provider.header()], provider.signature(&line.body), "{provider:?}: {number}");
    }
    let missing = sent.values().filter(|(_, forged)| !forged).map(|(number, _)| number).collect::<Vec<_>>();
    assert!(missing.is_empty(), "{provider:?}: accepted, but not on disk: {missing:?}");
    written.len() as u64
}
