//! HTTPS: who gets in, how certificates are swapped, and what is said to those who speak something else.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use tokio::task::JoinSet;

use crate::support::{
    Bridge, Certificate, Client, Http2, Provider, Setup, Trust, alone, head, number_of, say,
};

use Provider::FastPix;

/// The events of a client that counts.
fn event(client: &str, number: u64) -> Vec<u8> {
    format!(r#"{{"id":"{client}-{number}","type":"a.b"}}"#).into_bytes()
}

#[tokio::test]
async fn events_come_over_each_version_and_each_protocol() {
    let certificate = Certificate::new();
    let bridge = Bridge::start_tls(Setup::default(), &certificate).await;
    let mut number = 0;
    for version in [&TLS12, &TLS13] {
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&["http/1.0", "http/1.1"], Some("http/1.1")),
            (&[], None),
        ] {
            let trust = Trust::with(&[&certificate], &[version], offered);
            let stream = trust.connect(bridge.address()).await.unwrap();
            let connection = stream.get_ref().1;
            assert_eq!(connection.protocol_version(), Some(version.version));
            assert_eq!(connection.alpn_protocol(), agreed.map(str::as_bytes));
            number += 1;
            let body = event("matrix", number);
            let response = if agreed == Some("h2") {
                let client = Http2::connect_tls(bridge.address(), &trust).await.unwrap();
                client.event(FastPix, &body).await.unwrap()
            } else {
                let mut client = Client::connect_tls(bridge.address(), &trust).await.unwrap();
                client.ask(&FastPix.request(&body)).await
            };
            assert_eq!(response.taken(), "accepted", "{version:?} {offered:?}");
        }
        let stranger = Trust::with(&[&certificate], &[version], &["spdy/3"]);
        assert!(stranger.connect(bridge.address()).await.is_err(), "nothing is in common");
    }
    assert_eq!(bridge.written("fastpix").len() as u64, number);
}

#[tokio::test]
async fn http_in_clear_is_told_that_this_is_https() {
    let bridge = Bridge::start_tls(Setup::default(), &Certificate::new()).await;
    let mut client = bridge.connect().await;
    let response = client.ask(&FastPix.request(b"{\"id\":\"e1\"}")).await;
    assert_eq!(response.problem(400), "tls_required");
    assert!(response.is_last());
    client.ended().await;
    // No method of HTTP, and no record of TLS either.
    let mut client = bridge.connect().await;
    client.send(b"\x00\x01\x02\x03\x04\x05").await.unwrap();
    client.hung_up().await;
    assert!(bridge.written("fastpix").is_empty());
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"";
    let timeouts = "handshake = \"1s\", first-byte = \"1h\"";
    let setup = Setup { timeouts, more: ADMIN, ..Setup::default() };
    let certificate = Certificate::new();
    let mut bridge = Bridge::start_tls(setup, &certificate).await;
    // Nothing; the beginning of a record; a record that says the next one goes on, for ever.
    let beginnings: [&[u8]; 3] =
        [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x01\x00\x01\x01"];
    for beginning in beginnings {
        let mut client = bridge.connect().await;
        client.send(beginning).await.unwrap();
        client.ended().await;
    }
    // Behind it the deadline of the first byte is another one.
    let mut client = Client::connect_tls(bridge.address(), &Trust::http1(&certificate)).await.unwrap();
    assert_eq!(client.ask(&FastPix.request(b"{\"id\":\"e1\"}")).await.taken(), "accepted");
    let page = bridge.admin("/metrics").await;
    let text = String::from_utf8(page.body).unwrap();
    for (outcome, times) in [("cut_short", 3), ("done", 1), ("failed", 0)] {
        let line = format!("hookbus_http_tls_handshakes_total{{outcome=\"{outcome}\"}} {times}\n");
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(text.contains("hookbus_http_tls_certificate_expires_seconds 4070908800.0\n"), "{text}");
}

#[tokio::test]
async fn a_pair_that_is_refused_is_shown_as_long_as_it_is_there() {
    const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"";
    let certificate = Certificate::new();
    let mut bridge = Bridge::start_tls(Setup { more: ADMIN, ..Setup::default() }, &certificate).await;
    let shown = async |bridge: &mut Bridge| {
        let ready = bridge.admin("/readyz").await;
        let ready: serde_json::Value = serde_json::from_slice(&ready.body).unwrap();
        let page = String::from_utf8(bridge.admin("/metrics").await.body).unwrap();
        let line = page.lines().find(|line| line.starts_with("hookbus_http_tls_certificate_current "));
        (ready["certificate"].clone(), line.unwrap().to_owned())
    };
    let (sound, line) = shown(&mut bridge).await;
    assert_eq!(
        (&sound["expires"], &sound["refused"]),
        (&"2099-01-01T00:00:00Z".into(), &serde_json::Value::Null)
    );
    assert_eq!(line, "hookbus_http_tls_certificate_current 1.0");
    std::fs::write(bridge.path("tls/key.pem"), "no key").unwrap();
    bridge.logged("new TLS certificate refused, the one before it stays in use").await;
    let (refused, line) = shown(&mut bridge).await;
    assert!(refused["refused"]["why"].as_str().unwrap().contains("there is no key in it"), "{refused}");
    assert_eq!(line, "hookbus_http_tls_certificate_current 0.0");
    certificate.install(&bridge.path("tls"));
    bridge.logged("new TLS certificate in use").await;
    assert_eq!(shown(&mut bridge).await, (sound, "hookbus_http_tls_certificate_current 1.0".to_owned()));
}

#[tokio::test]
async fn deadlines_and_answers_of_http_hold_within_tls() {
    let certificate = Certificate::new();
    let timeouts = "first-byte = \"1s\", headers = \"1s\", body = \"1s\", idle = \"1s\"";
    let bridge = Bridge::start_tls(Setup { timeouts, ..Setup::default() }, &certificate).await;
    let trust = Trust::http1(&certificate);
    let connect = || async { Client::connect_tls(bridge.address(), &trust).await.unwrap() };
    let (mut silent, mut half_a_head) = (connect().await, connect().await);
    let request = FastPix.request(b"{\"id\":\"half\"}");
    assert_eq!(half_a_head.ask(&request[..30]).await.problem(408), "request_timeout");
    half_a_head.ended().await;
    let mut half_a_body = connect().await;
    assert_eq!(half_a_body.ask(&request[..request.len() - 2]).await.problem(408), "request_timeout");
    half_a_body.ended().await;
    silent.ended().await;
    let mut idle = connect().await;
    assert_eq!(idle.ask(&FastPix.request(b"{\"id\":\"idle\"}")).await.taken(), "accepted");
    idle.ended().await;
    let mut broken = connect().await;
    assert_eq!(broken.ask(b"SSH-2.0-client\r\n\r\n").await.problem(400), "broken_request");
    broken.ended().await;
}

#[tokio::test]
async fn where_there_is_no_place_it_is_said_within_tls() {
    let limits = "connections = 4, connections-per-address = 4";
    let certificate = Certificate::new();
    let timeouts = "first-byte = \"1s\", idle = \"1s\"";
    let bridge = Bridge::start_tls(Setup { limits, timeouts, ..Setup::default() }, &certificate).await;
    let trust = Trust::with(&[&certificate], &[&TLS13], &["h2", "http/1.1"]);
    // Frozen, it accepts nothing, but the kernel completes connections for it: they come all at once.
    bridge.signal(Signal::STOP);
    let mut clients = JoinSet::new();
    for _ in 0..32 {
        let (trust, address) = (trust.clone(), bridge.address());
        clients.spawn(async move {
            let mut client = Client::connect_tls(address, &trust).await.ok()?;
            // Those that were let in speak HTTP/2, as offered first; only farewells are HTTP/1.1.
            client.receive().await.ok()
        });
    }
    bridge.signal(Signal::CONT);
    let mut told = 0;
    while let Some(client) = clients.join_next().await {
        if let Some(response) = client.unwrap() {
            assert_eq!(response.problem(503), "busy");
            assert_eq!(response.header("retry-after"), Some("1"));
            told += 1;
        }
    }
    assert!(told > 0, "none was turned away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_swapped_under_load_without_a_failed_request() {
    let _alone = alone().await;
    let swaps = number_of("HOOKBUS_TEST_SWAPS", 10);
    let certificates: Vec<_> = (0..=swaps).map(|_| Certificate::new()).collect();
    let setup = Setup { more: "[admin]\nlisten = \"127.0.0.1:0\"", ..Setup::default() };
    let mut bridge = Bridge::start_tls(setup, &certificates[0]).await;
    let all: Vec<_> = certificates.iter().collect();
    let load = Load::begin(&bridge, &all);
    let mut late = 0;
    for (swap, certificate) in (1..).zip(&certificates[1..]) {
        let before = load.answered();
        certificate.install(&bridge.path("tls"));
        bridge.logged_times("new TLS certificate in use", swap).await;
        let stream = Trust::with(&all, &[&TLS13], &["h2"]).connect(bridge.address()).await.unwrap();
        assert!(certificate.is_shown(&stream), "swap {swap}");
        late += load.answered() - before;
    }
    let (answered, handshakes) = load.end().await;
    assert_eq!(bridge.times_logged("new TLS certificate refused"), 0);
    assert!(late > 0);
    say(&format!(
        "certificates: {swaps} swaps beside {answered} requests over {handshakes} handshakes, HTTP/1.1 and HTTP/2: \
         none failed"
    ));
    assert_eq!(bridge.written("fastpix").len() as u64, answered);
    bridge.stop().await;
}

/// Clients that send events as fast as they are answered: two keep their connection, two make one for each event.
struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: JoinSet<u64>,
}

impl Load {
    fn begin(bridge: &Bridge, certificates: &[&Certificate]) -> Self {
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (mut clients, address) = (JoinSet::new(), bridge.address());
        for (name, protocol, keeps) in
            [("a", "http/1.1", true), ("b", "h2", true), ("c", "http/1.1", false), ("d", "h2", false)]
        {
            let trust = Trust::with(certificates, &[&TLS12, &TLS13], &[protocol]);
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            clients.spawn(async move {
                let (mut number, mut handshakes) = (0, 0);
                while !over.load(Ordering::SeqCst) {
                    handshakes += 1;
                    let mut again = true;
                    if protocol == "h2" {
                        let client = Http2::connect_tls(address, &trust).await.unwrap();
                        while again && !over.load(Ordering::SeqCst) {
                            let response = client.event(FastPix, &event(name, number)).await;
                            assert_eq!(response.unwrap().taken(), "accepted");
                            (number, again) = (number + 1, keeps);
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                    } else {
                        let mut client = Client::connect_tls(address, &trust).await.unwrap();
                        while again && !over.load(Ordering::SeqCst) {
                            let response = client.ask(&FastPix.request(&event(name, number))).await;
                            assert_eq!(response.taken(), "accepted");
                            (number, again) = (number + 1, keeps);
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
                handshakes
            });
        }
        Self { over, answered, clients }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Ends it; returns how many requests were answered, and over how many handshakes.
    async fn end(mut self) -> (u64, u64) {
        self.over.store(true, Ordering::SeqCst);
        let mut handshakes = 0;
        while let Some(client) = self.clients.join_next().await {
            handshakes += client.unwrap();
        }
        (self.answered(), handshakes)
    }
}

#[tokio::test]
async fn a_broken_certificate_is_refused_once_and_the_one_before_it_stays() {
    let (first, other, last) = (Certificate::new(), Certificate::new(), Certificate::new());
    let mut bridge = Bridge::start_tls(Setup::default(), &first).await;
    let refused = "new TLS certificate refused, the one before it stays in use";
    let trust = Trust::with(&[&first, &last], &[&TLS13], &["h2"]);
    let broken = [
        (other.with(|pair| pair.key.clone_from(&first.key)), "does not fit"),
        (Certificate::new().with(|pair| pair.cert.clear()), "no certificate"),
        (Certificate::until(2021), "expired at 2021-01-01T00:00:00Z"),
    ];
    for (times, (broken, why)) in (1..).zip(&broken) {
        broken.install(&bridge.path("tls"));
        let lines = bridge.logged_times(refused, times).await;
        let error = lines.last().unwrap()["fields"]["error"].as_str().unwrap().to_owned();
        assert!(error.contains(why) && error.contains("tls/"), "{error}");
        assert!(first.is_shown(&trust.connect(bridge.address()).await.unwrap()));
    }
    last.install(&bridge.path("tls"));
    bridge.logged("new TLS certificate in use").await;
    assert!(last.is_shown(&trust.connect(bridge.address()).await.unwrap()));
    // It was looked at more often than told.
    assert_eq!(bridge.times_logged(refused), broken.len());
    assert!(!bridge.log().contains("PRIVATE"));
}

#[tokio::test]
async fn being_asked_to_stop_it_answers_what_it_was_sent_and_says_goodbye() {
    let certificate = Certificate::new();
    let timeouts = "first-byte = \"1h\", idle = \"1h\", grace = \"1h\"";
    let mut bridge = Bridge::start_tls(Setup { timeouts, ..Setup::default() }, &certificate).await;
    let trust = Trust::http1(&certificate);
    let mut upload = Client::connect_tls(bridge.address(), &trust).await.unwrap();
    let body = b"{\"id\":\"upload\"}";
    let (signature, length) = (FastPix.signature(body), body.len().to_string());
    let headers =
        [(FastPix.header(), signature.as_str()), ("content-length", &length), ("expect", "100-continue")];
    assert_eq!(upload.ask(&head("/hooks/fastpix", &headers)).await.status, 100);
    let mut idle = Client::connect_tls(bridge.address(), &trust).await.unwrap();
    let many = Http2::connect_tls(bridge.address(), &Trust::http2(&certificate)).await.unwrap();
    assert_eq!(many.event(FastPix, b"{\"id\":\"one\"}").await.unwrap().taken(), "accepted");
    bridge.signal(Signal::TERM);
    // GOAWAY and the end of TLS, so that nobody takes it for a connection that broke.
    many.ended().await.unwrap();
    let response = upload.ask(body).await;
    assert_eq!(response.taken(), "accepted");
    assert!(response.is_last());
    upload.ended().await;
    idle.ended().await;
    assert_eq!(bridge.exit_code().await, 0);
    assert_eq!(bridge.written("fastpix").len(), 2);
    let refused = Client::connect_tls(bridge.address(), &trust).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn check_says_when_the_certificate_expires() {
    let bridge = Bridge::start_tls(Setup::default(), &Certificate::new()).await;
    let said = bridge.command(&["check"]);
    assert!(said.contains("the TLS certificate expires at 2099-01-01T00:00:00Z, in "), "{said}");
    let json = bridge.command(&["check", "--json"]);
    assert!(json.contains(r#""certificate-expires":"2099-01-01T00:00:00Z""#), "{json}");
}
