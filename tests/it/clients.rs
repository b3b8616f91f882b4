//! Slow and broken clients: each comes to its defined end, and genuine requests are served meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::{JoinHandle, JoinSet};

use crate::support::{Bridge, Client, Memory, Provider, Setup, alone, chunk, head, until};

use Provider::FastPix;

/// Clients of one sort at once.
const MANY: usize = 32;

/// What may grow beside bodies: buffers of connections, and whatever the allocator keeps.
const MARGIN: u64 = 8 << 20;
/// What bodies of one source may take: by default a quarter of 64 MiB, and half as much again because the
/// allocator does not give back at once what grew in steps. Without the budget 64 clients with bodies up to
/// the limit of 1 MiB take more.
const BODIES: u64 = 24 << 20;

/// A bridge with deadlines short enough to wait for.
async fn impatient() -> Bridge {
    let timeouts = "first-byte = \"1s\", headers = \"1s\", body = \"2s\", idle = \"2s\"";
    let bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
    // What is made once is made now.
    for number in 0..50 {
        genuine(&bridge, &format!("warm-{number}")).await;
    }
    bridge
}

/// Sends a genuine event over a connection of its own.
async fn genuine(bridge: &Bridge, id: &str) {
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&event(id)).await.taken(), "accepted");
}

fn event(id: &str) -> Vec<u8> {
    FastPix.request(format!(r#"{{"id":"{id}","type":"a.b"}}"#).as_bytes())
}

/// Genuine requests, one after the other, as long as something else goes on.
struct Meanwhile {
    over: Arc<AtomicBool>,
    sender: JoinHandle<u32>,
}

impl Meanwhile {
    fn begin(bridge: &Bridge) -> Self {
        let (over, address) = (Arc::<AtomicBool>::default(), bridge.address());
        let until = Arc::clone(&over);
        let sender = tokio::spawn(async move {
            let mut served = 0;
            // Clients that wait for a deadline need no load beside them.
            let mut pace = tokio::time::interval(Duration::from_millis(5));
            while !until.load(Ordering::SeqCst) || served == 0 {
                let mut client = Client::connect(address).await.unwrap();
                for _ in 0..10 {
                    let response = client.ask(&event(&format!("meanwhile-{served}"))).await;
                    assert_eq!(response.taken(), "accepted");
                    served += 1;
                    pace.tick().await;
                }
            }
            served
        });
        Self { over, sender }
    }

    /// Ends it and checks that all were served.
    async fn end(self, bridge: &Bridge) {
        self.over.store(true, Ordering::SeqCst);
        let served = self.sender.await.unwrap();
        let written = bridge.written("fastpix");
        let found = written.iter().filter(|line| line.id.starts_with("meanwhile-")).count();
        assert_eq!(found, served as usize);
    }
}

/// Lets many clients do the same at once beside genuine ones, and looks at the memory it takes.
async fn many<F>(what: &str, count: usize, may_grow: u64, one: impl Fn(Client) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let _alone = alone().await;
    let bridge = impatient().await;
    let (memory, meanwhile) = (Memory::before(&bridge), Meanwhile::begin(&bridge));
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(one(bridge.connect().await));
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    meanwhile.end(&bridge).await;
    memory.check(&bridge, what, may_grow);
}

/// The head of a request with a signature of the right form under the wrong key.
fn forged_head(framing: (&str, &str)) -> Vec<u8> {
    let signature = FastPix.signature_under(&FastPix.wrong_secret(), b"");
    head("/hooks/fastpix", &[(FastPix.header(), &signature), framing])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_nothing_is_hung_up_on() {
    many("no bytes", MANY, MARGIN, |mut client| async move { client.ended().await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_falls_silent_is_hung_up_on() {
    many("idle", MANY, MARGIN, |mut client| async move {
        let body = format!(r#"{{"id":"idle-{:?}"}}"#, tokio::task::id());
        assert_eq!(client.ask(&FastPix.request(body.as_bytes())).await.taken(), "accepted");
        client.ended().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_head_is_answered_408() {
    many("half a head", MANY, MARGIN, |mut client| async move {
        let head = head("/hooks/fastpix", &[("content-length", "10")]);
        let response = client.ask(&head[..head.len() / 2]).await;
        assert_eq!(response.problem(408), "request_timeout");
        assert!(response.is_last());
        client.ended().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_body_is_answered_408() {
    many("half a body", MANY, MARGIN, |mut client| async move {
        let request = event("half");
        let response = client.ask(&request[..request.len() - 10]).await;
        assert_eq!(response.problem(408), "request_timeout");
        assert!(response.is_last());
        client.ended().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_answered_400() {
    many("a body that breaks off", MANY, MARGIN, |mut client| async move {
        let request = event("broken");
        client.send(&request[..request.len() - 10]).await.unwrap();
        client.finish().await.unwrap();
        assert_eq!(client.receive().await.unwrap().problem(400), "broken_body");
        client.ended().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_in_the_middle_of_a_body_is_forgotten() {
    many("gone clients", MANY, MARGIN, |mut client| async move {
        let request = event("gone");
        client.send(&request[..request.len() - 10]).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_no_answers_is_hung_up_on() {
    many("answers nobody reads", 8, MARGIN, |client| async move {
        let mut client = Client::connect_narrow(client.peer()).await.unwrap();
        client.send_until_stuck(&head("/", &[])).await;
        client.hung_up().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_of_headers_are_answered_431() {
    many("10 MB of headers", MANY, MARGIN, |mut client| async move {
        let mut pieces = 0;
        let piece = move || {
            pieces += 1;
            match pieces {
                1 => Some(b"POST /hooks/fastpix HTTP/1.1\r\n".to_vec()),
                2..=10_000 => Some(format!("x-header-{pieces}: {}\r\n", "x".repeat(1_000)).into_bytes()),
                _ => None,
            }
        };
        let (_, response) = client.send_until_answered(piece).await;
        assert_eq!(response.unwrap().problem(431), "head_too_large");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_in_chunks_is_answered_413_long_before_its_end() {
    const GIGABYTE: usize = 1 << 30;
    many("1 GB in chunks", 2 * MANY, BODIES + MARGIN, |mut client| async move {
        client.send(&forged_head(("transfer-encoding", "chunked"))).await.unwrap();
        let (piece, mut left) = (chunk(&[b'x'; 64 << 10]), GIGABYTE / (64 << 10));
        let pieces = move || {
            left = left.checked_sub(1)?;
            Some(piece.clone())
        };
        let (sent, response) = client.send_until_answered(pieces).await;
        let response = response.unwrap();
        // So many at once may also find the byte budget used up.
        match response.status {
            413 => assert_eq!(response.problem(413), "body_too_large"),
            _ => assert_eq!(response.problem(503), "busy"),
        }
        assert!(response.is_last());
        // Most of that lies in the buffers of the kernel.
        assert!(sent < GIGABYTE / 16, "{sent} bytes were sent");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_forged_bodies_keep_no_genuine_request_of_their_source_out() {
    const ANNOUNCED: usize = 1 << 20;
    let (number, busy) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    many("64 slow forged bodies", 2 * MANY, BODIES + MARGIN, |mut client| {
        // Half of them hold a first step of the budget, half of them want as much as there is.
        let modest = number.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        let busy = Arc::clone(&busy);
        async move {
            let head = forged_head(("content-length", &ANNOUNCED.to_string()));
            client.send(&head).await.unwrap();
            let mut body = Some(vec![b'x'; if modest { 5_000 } else { ANNOUNCED - 1 }]);
            let (_, response) = client.send_until_answered(move || body.take()).await;
            let response = response.unwrap();
            if response.status == 408 {
                assert_eq!(response.problem(408), "request_timeout");
            } else {
                assert!(!modest, "a first step is to be had: {response:?}");
                assert_eq!(response.problem(503), "busy");
                assert!(response.header("retry-after").is_some());
                busy.fetch_add(1, Ordering::SeqCst);
            }
            assert!(response.is_last());
        }
    })
    .await;
    assert!(busy.load(Ordering::SeqCst) > 0, "32 MiB were held of a budget of 16 MiB");
}

#[tokio::test]
async fn at_the_limit_of_connections_an_idle_one_makes_room() {
    const LIMIT: usize = 64;
    let _alone = alone().await;
    let limits = "connections = 64, connections-per-address = 64";
    let bridge = Bridge::start(Setup { limits, ..Setup::default() }).await;
    let memory = Memory::before(&bridge);
    let mut idle = Vec::new();
    for number in 0..LIMIT {
        let mut client = bridge.connect().await;
        assert_eq!(client.ask(&event(&format!("idle-{number}"))).await.taken(), "accepted");
        idle.push(client);
    }
    let ended = |idle: &[Client]| idle.iter().filter(|client| client.has_ended()).count();
    assert_eq!(ended(&idle), 0);
    // It stays, so that the next one needs a place of its own.
    let mut held = Vec::new();
    for more in 1..=3 {
        let mut client = bridge.connect().await;
        assert_eq!(client.ask(&event(&format!("new-{more}"))).await.taken(), "accepted");
        held.push(client);
        until("an idle connection is closed", || ended(&idle) == more).await;
    }
    // Those idle longest went, and the others are as good as before.
    assert!(idle[..3].iter().all(Client::has_ended));
    for (number, client) in idle[3..].iter_mut().enumerate() {
        assert_eq!(client.ask(&event(&format!("again-{number}"))).await.taken(), "accepted");
    }
    memory.check(&bridge, "idle connections at the limit", MARGIN);
}

#[tokio::test]
async fn at_the_limit_with_all_at_work_the_slowest_sender_makes_room() {
    let limits = "connections = 4, connections-per-address = 4";
    let bridge = Bridge::start(Setup { limits, ..Setup::default() }).await;
    let mut sending = Vec::new();
    for number in 0..4 {
        let mut client = bridge.connect().await;
        let body = format!("{number}");
        let signature = FastPix.signature(body.as_bytes());
        let headers =
            [(FastPix.header(), signature.as_str()), ("content-length", "1"), ("expect", "100-continue")];
        // The interim answer says that the bridge waits for the body.
        assert_eq!(client.ask(&head("/hooks/fastpix", &headers)).await.status, 100);
        sending.push((client, body));
    }
    genuine(&bridge, "room").await;
    sending.remove(0).0.ended().await;
    for (client, body) in &mut sending {
        assert_eq!(client.ask(body.as_bytes()).await.taken(), "accepted");
    }
}

#[tokio::test]
async fn at_the_limit_clients_that_read_no_answers_make_room() {
    let _alone = alone().await;
    let limits = "connections = 4, connections-per-address = 4";
    let bridge = Bridge::start(Setup { limits, ..Setup::default() }).await;
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect_narrow(bridge.address()).await.unwrap();
        client.send_until_stuck(&head("/", &[])).await;
        stuck.push(client);
    }
    genuine(&bridge, "room").await;
    // The limit on idling is a minute: this one had to go for the sake of another.
    stuck[0].hung_up().await;
}
