//! HTTP/2: in clear and by TLS, many requests at once, and what a client cannot make the bridge do.

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::{task::JoinSet, time::interval};

use crate::support::{
    Bridge, Certificate, Client, Frame, Frames, Http2, Memory, Provider, Setup, Trust, alone, block, frame,
    say,
};

use Provider::{FastPix, Fastgen};

/// What may grow beside bodies: buffers of connections, and whatever the allocator keeps.
const MARGIN: u64 = 16 << 20;

/// The headers of a POST with a body that is signed, or not.
fn post(signature: &str) -> Vec<u8> {
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/hooks/fastpix"), (":authority", "x")];
    block(&[&pseudo[..], &[(FastPix.header(), signature)]].concat())
}

/// A whole genuine request on a stream.
fn genuine(stream: u32, body: &[u8]) -> Vec<u8> {
    let head = frame(Frame::HEADERS, Frame::END_HEADERS, stream, &post(&FastPix.signature(body)));
    [head, frame(Frame::DATA, Frame::END_STREAM, stream, body)].concat()
}

/// Receives what belongs to a stream until it has a status.
async fn status(frames: &mut Frames, stream: u32) -> u16 {
    loop {
        let frame = frames.receive_kind(Frame::HEADERS).await.expect("an answer");
        if frame.stream == stream {
            return frame.status().unwrap();
        }
    }
}

#[tokio::test]
async fn requests_are_answered_like_those_of_http1() {
    let bridge = Bridge::start(Setup { limits: "body = \"64KiB\"", ..Setup::default() }).await;
    let client = Http2::connect(bridge.address()).await.unwrap();
    let body = br#"{"id":"e1","type":"a.b","object":{"id":"m1"}}"#;
    let response = client.event(FastPix, body).await.unwrap();
    assert_eq!(response.taken(), "accepted");
    assert_eq!(response.body, br#"{"id":"e1","status":"accepted"}"#);
    assert_eq!(client.event(FastPix, body).await.unwrap().taken(), "duplicate");
    assert_eq!(client.event(Fastgen, b"{\"id\":\"e1\"}").await.unwrap().taken(), "accepted");
    let wrong = FastPix.signature_under(&FastPix.wrong_secret(), body);
    let forged = client.send(FastPix.http2(&wrong, body)).await.unwrap();
    assert_eq!(forged.problem(401), "signature_mismatch");
    assert_eq!(forged.header("connection"), None);
    let mut elsewhere = FastPix.http2("", b"{}");
    *elsewhere.uri_mut() = "http://localhost/hooks/other".parse().unwrap();
    assert_eq!(client.send(elsewhere).await.unwrap().problem(404), "not_found");
    let mut get = FastPix.http2("", b"");
    *get.method_mut() = http::Method::GET;
    let response = client.send(get).await.unwrap();
    assert_eq!(response.problem(405), "method_not_allowed");
    assert_eq!(response.header("allow"), Some("POST"));
    let too_long = vec![b'x'; 65_537];
    assert_eq!(client.event(FastPix, &too_long).await.unwrap().problem(413), "body_too_large");
    // The connection is as good as before.
    assert_eq!(client.event(FastPix, &too_long[1..]).await.unwrap().taken(), "accepted");
    let mut large = FastPix.http2("", b"{}");
    large.headers_mut().insert("x-padding", "x".repeat(20 << 10).parse().unwrap());
    // This one the library answers by itself.
    assert_eq!(client.send(large).await.unwrap().status, 431);
    assert_eq!(client.event(FastPix, b"{\"id\":\"e2\"}").await.unwrap().taken(), "accepted");
    assert_eq!(bridge.written("fastpix").len(), 3);
}

#[tokio::test]
async fn many_requests_at_once_share_a_connection() {
    let bridge = Bridge::start(Setup { limits: "streams = 8", ..Setup::default() }).await;
    let client = Arc::new(Http2::connect(bridge.address()).await.unwrap());
    let mut requests = JoinSet::new();
    for number in 0..200 {
        let client = Arc::clone(&client);
        requests.spawn(async move {
            // Some longer than a window.
            let padding = "x".repeat(if number % 20 == 0 { 200_000 } else { 100 });
            let body = format!(r#"{{"id":"many-{number}","padding":"{padding}"}}"#);
            assert_eq!(client.event(FastPix, body.as_bytes()).await.unwrap().taken(), "accepted");
        });
    }
    while let Some(request) = requests.join_next().await {
        request.unwrap();
    }
    assert_eq!(bridge.written("fastpix").len(), 200);
}

#[tokio::test]
async fn the_first_bytes_tell_the_protocol_and_have_a_deadline() {
    let timeouts = "first-byte = \"1s\", headers = \"1s\"";
    let bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
    let mut nothing = bridge.connect().await;
    for half in [&b"P"[..], b"PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut client = bridge.connect().await;
        assert_eq!(client.ask(half).await.problem(408), "request_timeout");
        client.ended().await;
    }
    nothing.ended().await;
    // As much like it as can be, and not it.
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\r\n\r\n").await.problem(400), "broken_request");
    // In pieces.
    let mut client = bridge.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for byte in preface.iter().chain(&frame(Frame::SETTINGS, 0, 0, b"")) {
        client.send(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let request = FastPix.request(b"{\"id\":\"in-pieces\"}");
    let mut client = bridge.connect().await;
    client.send(&request[..1]).await.unwrap();
    assert_eq!(client.ask(&request[1..]).await.taken(), "accepted");
}

#[tokio::test]
async fn a_slow_body_costs_its_stream_alone() {
    let timeouts = "body = \"1s\", idle = \"1h\"";
    let bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
    let mut frames = Frames::connect(bridge.address(), b"").await.unwrap();
    let head = frame(Frame::HEADERS, Frame::END_HEADERS, 1, &post(&FastPix.signature(b"{}")));
    frames.send(&[head, frame(Frame::DATA, 0, 1, b"{")].concat()).await.unwrap();
    frames.send(&genuine(3, b"{\"id\":\"beside\"}")).await.unwrap();
    assert_eq!(status(&mut frames, 3).await, 200);
    assert_eq!(status(&mut frames, 1).await, 408);
    // And it is told to send no more of it.
    let reset = frames.receive_kind(Frame::RST_STREAM).await.unwrap();
    assert_eq!((reset.stream, &reset.payload[..]), (1, &[0, 0, 0, 0][..]));
    frames.send(&genuine(5, b"{\"id\":\"behind\"}")).await.unwrap();
    assert_eq!(status(&mut frames, 5).await, 200);
}

/// A token proves who sends, not what: half a body must not pass for a whole one, whatever its stream was reset with.
#[tokio::test]
async fn a_body_that_broke_off_is_no_event() {
    const GITLAB: &str = r#"[sources.gitlab]
provider = "gitlab-token"
secrets = [{ file = "fastgen.secret" }]
"#;
    let mut bridge = Bridge::start(Setup { more: GITLAB, ..Setup::default() }).await;
    let mut frames = Frames::connect(bridge.address(), b"").await.unwrap();
    let head = |stream| {
        let token = String::from_utf8(Fastgen.secret().expose().to_vec()).unwrap();
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/hooks/gitlab"),
            (":authority", "x"),
            ("x-gitlab-token", token.as_str()),
            ("x-gitlab-event", "Push Hook"),
            ("idempotency-key", "once"),
        ];
        frame(Frame::HEADERS, Frame::END_HEADERS, stream, &block(&fields))
    };
    let body = br#"{"object_kind":"push","ref":"refs/heads/main"}"#;
    for (stream, code) in [(1, 0_u32), (3, 8)] {
        let half = frame(Frame::DATA, 0, stream, &body[..20]);
        let reset = frame(Frame::RST_STREAM, 0, stream, &code.to_be_bytes());
        frames.send(&[head(stream), half, reset].concat()).await.unwrap();
    }
    frames.send(&[head(5), frame(Frame::DATA, Frame::END_STREAM, 5, body)].concat()).await.unwrap();
    assert_eq!(status(&mut frames, 5).await, 200);
    bridge.stop().await;
    let written = bridge.written("gitlab");
    assert_eq!(written.iter().map(|event| &event.body[..]).collect::<Vec<_>>(), [&body[..]]);
}

#[tokio::test]
async fn a_connection_without_requests_is_idle_whatever_it_sends() {
    let timeouts = "idle = \"1s\", first-byte = \"1s\"";
    let bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
    let mut frames = Frames::connect(bridge.address(), b"").await.unwrap();
    frames.send(&genuine(1, b"{\"id\":\"once\"}")).await.unwrap();
    assert_eq!(status(&mut frames, 1).await, 200);
    let mut pace = interval(Duration::from_millis(50));
    // Pings are answered, and then they are not: they are no sign of work.
    while frames.send(&frame(Frame::PING, 0, 0, &[7; 8])).await.is_ok() {
        pace.tick().await;
    }
    let client = Http2::connect(bridge.address()).await.unwrap();
    client.ended().await.unwrap();
}

#[tokio::test]
async fn being_asked_to_stop_it_says_so_and_answers_what_is_under_way() {
    let timeouts = "idle = \"1h\", grace = \"1h\", body = \"1h\"";
    let mut bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
    let mut frames = Frames::connect(bridge.address(), b"").await.unwrap();
    let body = b"{\"id\":\"under-way\"}";
    let head = frame(Frame::HEADERS, Frame::END_HEADERS, 1, &post(&FastPix.signature(body)));
    frames.send(&[head, frame(Frame::DATA, 0, 1, &body[..5])].concat()).await.unwrap();
    // Answered, so the one before it has begun.
    frames.send(&genuine(3, b"{\"id\":\"before\"}")).await.unwrap();
    assert_eq!(status(&mut frames, 3).await, 200);
    bridge.signal(Signal::TERM);
    let goaway = frames.receive_kind(Frame::GOAWAY).await.unwrap();
    assert_eq!(goaway.payload[4..], [0; 4], "no error");
    // The last stream is not named yet: what was on its way is answered.
    assert_eq!(goaway.payload[..4], [0x7f, 0xff, 0xff, 0xff]);
    frames.send(&genuine(5, b"{\"id\":\"on-its-way\"}")).await.unwrap();
    assert_eq!(status(&mut frames, 5).await, 200);
    frames.send(&frame(Frame::DATA, Frame::END_STREAM, 1, &body[5..])).await.unwrap();
    assert_eq!(status(&mut frames, 1).await, 200);
    // It does not wait for its answer to be acknowledged.
    frames.ended().await;
    assert_eq!(bridge.exit_code().await, 0);
    assert_eq!(bridge.written("fastpix").len(), 3);
}

#[tokio::test]
async fn at_the_limit_of_connections_one_with_requests_stays() {
    let limits = "connections = 2, connections-per-address = 2";
    let bridge = Bridge::start(Setup { limits, ..Setup::default() }).await;
    let idle = Http2::connect(bridge.address()).await.unwrap();
    assert_eq!(idle.event(FastPix, b"{\"id\":\"idle\"}").await.unwrap().taken(), "accepted");
    let mut busy = Frames::connect(bridge.address(), b"").await.unwrap();
    let body = b"{\"id\":\"busy\"}";
    let head = frame(Frame::HEADERS, Frame::END_HEADERS, 1, &post(&FastPix.signature(body)));
    busy.send(&[head, frame(Frame::DATA, 0, 1, &body[..5])].concat()).await.unwrap();
    busy.send(&genuine(3, b"{\"id\":\"beside\"}")).await.unwrap();
    assert_eq!(status(&mut busy, 3).await, 200);
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&FastPix.request(b"{\"id\":\"new\"}")).await.taken(), "accepted");
    idle.ended().await.unwrap();
    busy.send(&frame(Frame::DATA, Frame::END_STREAM, 1, &body[5..])).await.unwrap();
    assert_eq!(status(&mut busy, 1).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_all_streams_draw_on_one_budget() {
    let _alone = alone().await;
    // A source may have a quarter, half of it for what arrives beyond first steps: 1 MiB.
    let limits = "in-flight = \"8MiB\", connections-per-address = 1024";
    let bridge = Bridge::start(Setup { limits, timeouts: "body = \"2s\"", ..Setup::default() }).await;
    genuine_over(&bridge, "warm").await;
    let memory = Memory::before(&bridge);
    let mut clients = JoinSet::new();
    let body = Arc::new(vec![b'x'; 1 << 20]);
    for _ in 0..8 {
        let client = Arc::new(Http2::connect(bridge.address()).await.unwrap());
        for _ in 0..16 {
            let (client, body) = (Arc::clone(&client), Arc::clone(&body));
            clients.spawn(async move {
                let signature = FastPix.signature_under(&FastPix.wrong_secret(), b"");
                client.send(FastPix.http2(&signature, &body)).await.map(|response| response.status)
            });
        }
    }
    let mut busy = 0;
    while let Some(response) = clients.join_next().await {
        match response.unwrap() {
            // Refused with the budget used up, or read and found to be forged.
            Ok(503) => busy += 1,
            Ok(401 | 408) => {}
            // The library drops an answer that comes before its request was sent.
            Err(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(busy > 0, "128 MiB were taken at once");
    genuine_over(&bridge, "after").await;
    memory.check(&bridge, "128 bodies of 1 MiB over 8 connections of HTTP/2", (8 << 20) + MARGIN);
}

/// Sends a genuine event over a connection of HTTP/1.1 of its own.
async fn genuine_over(bridge: &Bridge, id: &str) {
    let mut client = bridge.connect().await;
    let request = FastPix.request(format!(r#"{{"id":"{id}"}}"#).as_bytes());
    assert_eq!(client.ask(&request).await.taken(), "accepted");
}

/// Sends pieces again and again until the connection is ended, and returns how many were taken, and the code it
/// was ended with, where that came through.
async fn flood(frames: &mut Frames, most: u32, mut piece: impl FnMut(u32) -> Vec<u8>) -> (u32, Option<u32>) {
    for number in 0..most {
        if frames.send(&piece(number)).await.is_err() {
            return (number, frames.ended().await);
        }
    }
    panic!("{most} pieces, and it goes on");
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let bridge = Bridge::start(Setup::default()).await;
    let memory = Memory::before(&bridge);
    let head = post(&FastPix.signature(b"{}"));
    let mut frames = Frames::connect(bridge.address(), b"").await.unwrap();
    let (rounds, code) = flood(&mut frames, 100_000, |round| {
        let pair = |stream| {
            let open = frame(Frame::HEADERS, Frame::END_HEADERS, stream, &head);
            [open, frame(Frame::RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        };
        (0..20).flat_map(|at| pair(1 + 2 * (20 * round + at))).collect()
    })
    .await;
    say(&format!("rapid reset: ended within {} streams, code {code:?}", 20 * rounds));
    genuine_over(&bridge, "after").await;
    memory.check(&bridge, "rapid reset", MARGIN);
}

#[tokio::test]
async fn a_client_may_give_up_requests_now_and_then() {
    let bridge = Bridge::start(Setup::default()).await;
    let mut frames = Frames::connect(bridge.address(), b"").await.unwrap();
    let head = post(&FastPix.signature(b"{}"));
    for round in 0..50 {
        let (stream, answered) = (1 + 24 * round, 1 + 24 * round + 22);
        let open = |at: u32| frame(Frame::HEADERS, Frame::END_HEADERS, stream + 2 * at, &head);
        frames.send(&(0..10).flat_map(open).collect::<Vec<_>>()).await.unwrap();
        let reset = |at: u32| frame(Frame::RST_STREAM, 0, stream + 2 * at, &8_u32.to_be_bytes());
        // The library allows 20 that were not looked at yet.
        frames.send(&(0..10).flat_map(reset).collect::<Vec<_>>()).await.unwrap();
        frames.send(&genuine(answered, format!(r#"{{"id":"{round}"}}"#).as_bytes())).await.unwrap();
        assert_eq!(status(&mut frames, answered).await, 200);
    }
    assert_eq!(bridge.written("fastpix").len(), 50);
}

#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    let bridge = Bridge::start(Setup::default()).await;
    let memory = Memory::before(&bridge);
    let open = |stream| frame(Frame::HEADERS, 0, stream, &post(""));
    let empty = || frame(Frame::CONTINUATION, 0, 1, b"");
    let padded = || frame(Frame::CONTINUATION, 0, 1, &block(&[("x-padding", &"x".repeat(16_000))]));
    for (what, piece) in [("empty", empty as fn() -> Vec<u8>), ("full", padded)] {
        let mut frames = Frames::connect(bridge.address(), b"").await.unwrap();
        frames.send(&open(1)).await.unwrap();
        let (taken, code) = flood(&mut frames, 100_000, |_| piece()).await;
        say(&format!("continuation flood, {what}: ended within {taken} frames, code {code:?}"));
    }
    genuine_over(&bridge, "after").await;
    memory.check(&bridge, "heads without end", MARGIN);
}

#[tokio::test]
async fn headers_that_unpack_to_much_are_refused() {
    let bridge = Bridge::start(Setup::default()).await;
    let memory = Memory::before(&bridge);
    // One header of 4,000 bytes that the table remembers, then a byte for each time it is meant.
    let mut bomb = post("");
    bomb.push(0x40);
    bomb.extend_from_slice(&block(&[("x-bomb", &"x".repeat(3_900))])[1..]);
    bomb.extend(std::iter::repeat_n(0xbe, 12_000));
    let mut frames = Frames::connect(bridge.address(), b"").await.unwrap();
    frames.send(&frame(Frame::HEADERS, Frame::END_HEADERS | Frame::END_STREAM, 1, &bomb)).await.unwrap();
    let code = match frames.receive_kind(Frame::HEADERS).await {
        Some(head) => head.status(),
        None => None,
    };
    say(&format!(
        "HPACK bomb of 16 KB for 46 MB: {}",
        code.map_or("the connection ended".into(), |code| code.to_string())
    ));
    assert!(code.is_none_or(|code| code == 431));
    genuine_over(&bridge, "after").await;
    memory.check(&bridge, "an HPACK bomb", MARGIN);
}

#[tokio::test]
async fn pings_and_settings_whose_answers_nobody_reads_take_no_memory() {
    let _alone = alone().await;
    let timeouts = "idle = \"2s\"";
    let bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
    let memory = Memory::before(&bridge);
    for (kind, payload) in [(Frame::PING, &[7; 8][..]), (Frame::SETTINGS, &[0, 4, 0, 0, 255, 255])] {
        let mut client = Client::connect_narrow(bridge.address()).await.unwrap();
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(Frame::SETTINGS, 0, 0, b"")[..]].concat();
        client.send(&preface).await.unwrap();
        client.send_until_stuck(&frame(kind, 0, 0, payload)).await;
        client.hung_up().await;
    }
    genuine_over(&bridge, "after").await;
    memory.check(&bridge, "pings and settings", MARGIN);
}

#[tokio::test]
async fn answers_that_nobody_takes_end_with_their_connection() {
    let _alone = alone().await;
    let timeouts = "idle = \"2s\"";
    let bridge = Bridge::start(Setup { timeouts, ..Setup::default() }).await;
    let memory = Memory::before(&bridge);
    let mut clients = Vec::new();
    for number in 0..64 {
        // A window of nothing for each stream.
        let mut frames = Frames::connect(bridge.address(), &[0, 4, 0, 0, 0, 0]).await.unwrap();
        let request = |at: u32| genuine(1 + 2 * at, format!(r#"{{"id":"{number}-{at}"}}"#).as_bytes());
        frames.send(&(0..64).flat_map(request).collect::<Vec<_>>()).await.unwrap();
        clients.push(frames);
    }
    for frames in &mut clients {
        frames.ended().await;
    }
    // As many as may be in progress were taken, the others are to come again.
    assert!(bridge.written("fastpix").len() >= 64);
    // What 1,024 requests in progress take is in it.
    memory.check(&bridge, "4,096 answers that nobody takes", 2 * MARGIN);
}

#[tokio::test]
async fn limits_hold_within_tls() {
    let certificate = Certificate::new();
    let setup = Setup { timeouts: "idle = \"1s\"", ..Setup::default() };
    let bridge = Bridge::start_tls(setup, &certificate).await;
    let trust = Trust::http2(&certificate);
    let head = post(&FastPix.signature(b"{}"));
    let mut frames = Frames::connect_tls(bridge.address(), &trust, b"").await.unwrap();
    flood(&mut frames, 100_000, |round| {
        let stream = 1 + 2 * round;
        let open = frame(Frame::HEADERS, Frame::END_HEADERS, stream, &head);
        [open, frame(Frame::RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
    let idle = Http2::connect_tls(bridge.address(), &trust).await.unwrap();
    assert_eq!(idle.event(FastPix, b"{\"id\":\"e1\"}").await.unwrap().taken(), "accepted");
    idle.ended().await.unwrap();
}
