//! Readiness in each state, and the pages as a client reads them.

use std::sync::Arc;

use hookbus_core::{ErrorKind, Health, HealthState, SinkError};
use hookbus_journal::Observer as _;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

use super::{answer::Shown, connections::MOST, *};
use crate::{
    dead_letters::LettersState,
    metrics::{Answered, JournalFigures, Metrics, Pending, names},
};

fn status() -> Arc<Status> {
    let sources = vec![
        SourceStatus { name: "fastpix".into(), awaits_secret: false },
        SourceStatus { name: "fastgen".into(), awaits_secret: true },
    ];
    let sinks = vec![SinkStatus::new("bus".into(), true), SinkStatus::new("copy".into(), false)];
    Arc::new(Status::new(sources, sinks))
}

fn health(state: HealthState) -> Health {
    let error = (state == HealthState::Down)
        .then(|| SinkError::new(ErrorKind::Auth, "connect", "the driver's words with hunter2"));
    Health { state, error, ..Health::starting() }
}

async fn get(shown: &Shown, path: &str) -> (u16, String) {
    let answer = shown.answer(&Request::get(path).body(()).unwrap());
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let status = answer.status().as_u16();
    let body = answer.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn readiness(shown: &Shown) -> (u16, Value) {
    let (status, body) = get(shown, "/readyz").await;
    (status, serde_json::from_str(&body).unwrap())
}

fn shown(status: &Arc<Status>) -> Shown {
    Shown { status: Arc::clone(status), registry: Metrics::new(Arc::clone(status)).registry() }
}

#[tokio::test]
async fn ready_from_the_listener_to_the_stop() {
    let status = status();
    let shown = shown(&status);
    let (code, body) = readiness(&shown).await;
    assert_eq!((code, &body["status"]), (503, &"starting".into()));
    assert_eq!(body["sinks"][0]["state"], "starting");
    status.listening();
    let (code, body) = readiness(&shown).await;
    assert_eq!((code, &body["status"], &body["journal"]), (200, &"ready".into(), &Value::Null));
    assert_eq!(body["sources"][1]["state"], "awaiting-secret", "{body}");
    status.stopping();
    let (code, body) = readiness(&shown).await;
    assert_eq!((code, &body["status"]), (503, &"stopping".into()));
    assert_eq!(get(&shown, "/livez").await.0, 200);
}

#[tokio::test]
async fn a_required_sink_that_is_down_is_in_the_way() {
    let status = status();
    let shown = shown(&status);
    status.listening();
    let [(bus, follow_bus), (copy, follow_copy)] = [0, 1].map(|_| watch::channel(Health::starting()));
    let configured = status.configured();
    configured.sinks[0].follow(follow_bus);
    configured.sinks[1].follow(follow_copy);
    let mut seen = Vec::new();
    for (bus_is, copy_is) in [
        (HealthState::Ready, HealthState::Down),
        (HealthState::Degraded, HealthState::Ready),
        (HealthState::Down, HealthState::Ready),
        (HealthState::Ready, HealthState::Ready),
    ] {
        bus.send_replace(health(bus_is));
        copy.send_replace(health(copy_is));
        let (code, body) = readiness(&shown).await;
        assert_eq!(body["sinks"][0]["state"], bus_is.as_str());
        assert_eq!(body["sinks"][1]["state"], copy_is.as_str());
        let down = body["sinks"].as_array().unwrap().iter().filter(|sink| sink["state"] == "down");
        down.for_each(|sink| assert_eq!(sink["error"], "auth"));
        assert!(body["sinks"][0]["since"].as_str().unwrap().ends_with('Z'), "{body}");
        assert!(!body.to_string().contains("hunter2"));
        seen.push((code, body["status"].as_str().unwrap().to_owned()));
    }
    let expected = [(200, "ready"), (200, "ready"), (503, "not-ready"), (200, "ready")];
    assert_eq!(seen, expected.map(|(code, word)| (code, word.to_owned())));
}

#[tokio::test]
async fn a_journal_that_takes_nothing_is_in_the_way_and_one_that_failed_is_the_end() {
    let status = status();
    let shown = shown(&status);
    status.listening();
    let (journal, follow) = watch::channel(JournalState::Ready);
    status.follow_journal(follow);
    for (state, ready, alive) in
        [(JournalState::Ready, 200, 200), (JournalState::Full, 503, 200), (JournalState::Failed, 503, 503)]
    {
        journal.send_replace(state);
        let (code, body) = readiness(&shown).await;
        assert_eq!((code, body["journal"]["state"].as_str()), (ready, Some(state.as_str())));
        assert_eq!(get(&shown, "/livez").await.0, alive);
    }
}

#[tokio::test]
async fn dead_letters_that_cannot_be_kept_are_shown_and_in_nobodys_way() {
    let status = status();
    let shown = shown(&status);
    status.listening();
    assert_eq!(readiness(&shown).await.1["dead-letters"], Value::Null);
    let (letters, follow) = watch::channel(LettersState::Ready);
    status.follow_letters(follow);
    for state in [LettersState::Ready, LettersState::Full, LettersState::Failing] {
        letters.send_replace(state);
        let (code, body) = readiness(&shown).await;
        assert_eq!((code, body["dead-letters"]["state"].as_str()), (200, Some(state.as_str())));
    }
}

#[tokio::test]
async fn the_page_has_every_metric_once_with_its_labels() {
    let status = status();
    let metrics = Metrics::new(Arc::clone(&status));
    metrics.source("fastpix").begin().answered(Answered::Accepted);
    metrics.sink("copy").dead_letter("too-large");
    metrics.sink("bus").pending.from(|| Pending {
        events: 3,
        bytes: 99,
        oldest: Some(std::time::Duration::from_secs(7)),
    });
    metrics.journal.figures.from(|| JournalFigures { segments: 2, ..JournalFigures::default() });
    metrics.journal.group(5, 1_000, std::time::Duration::from_micros(1_500));
    let shown = Shown { status, registry: metrics.registry() };
    let (_, page) = get(&shown, "/metrics").await;
    let families: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(families, names::ALL.iter().map(names::Metric::family).collect::<Vec<_>>());
    for line in [
        "hookbus_requests_total{source=\"fastpix\",answer=\"accepted\"} 1",
        "hookbus_requests_total{source=\"\",answer=\"not_found\"} 0",
        "hookbus_source_awaiting_secret{source=\"fastgen\"} 1.0",
        "hookbus_sink_dead_letters_total{sink=\"copy\",reason=\"too-large\"} 1",
        "hookbus_sink_state{sink=\"bus\",state=\"starting\"} 1.0",
        "hookbus_sink_oldest_pending_seconds{sink=\"bus\"} 7.0",
        "hookbus_journal_appended_events_total 5",
        "hookbus_journal_fsync_duration_seconds_bucket{le=\"0.0025\"} 1",
        "hookbus_journal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
        "hookbus_journal_fsync_duration_seconds_sum 0.0015",
        "hookbus_journal_segments 2.0",
        "hookbus_ready 0.0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}:\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
}

async fn ask(address: std::net::SocketAddr, request: &str) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn only_known_pages_are_read_and_only_read() {
    let status = status();
    let admin =
        Admin::start(([127, 0, 0, 1], 0).into(), Arc::clone(&status), &Metrics::new(status)).await.unwrap();
    for (line, begins, contains) in [
        ("GET /livez", "HTTP/1.1 200", "{\"status\":\"alive\"}"),
        ("GET /livez?verbose", "HTTP/1.1 200", "cache-control: no-store"),
        (
            "GET /metrics",
            "HTTP/1.1 200",
            "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("GET /", "HTTP/1.1 404", "content-type: application/problem+json"),
        ("GET /metrics/", "HTTP/1.1 404", "\"reason\":\"not_found\""),
        ("POST /livez", "HTTP/1.1 405", "allow: GET, HEAD"),
        ("DELETE /readyz", "HTTP/1.1 405", "\"reason\":\"method_not_allowed\""),
    ] {
        let answer = ask(admin.address(), &format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert!(answer.starts_with(begins) && answer.contains(contains), "{line}: {answer}");
    }
    let head = ask(admin.address(), "HEAD /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 503") && head.ends_with("\r\n\r\n"), "{head}");
    let long = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(64 << 10));
    let mut client = TcpStream::connect(admin.address()).await.unwrap();
    // It may end the connection before it has read all of that.
    let _ = client.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let address = admin.address();
    admin.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn connections_that_send_nothing_keep_nobody_out() {
    let status = status();
    let admin =
        Admin::start(([127, 0, 0, 1], 0).into(), Arc::clone(&status), &Metrics::new(status)).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..MOST + 1 {
        silent.push(TcpStream::connect(admin.address()).await.unwrap());
    }
    let answer = ask(admin.address(), "GET /livez HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Two came after the limit was reached, so two had to go: the first two.
    for gone in &mut silent[..2] {
        assert!(matches!(gone.read(&mut [0]).await, Ok(0) | Err(_)));
    }
    assert!(silent[2..].iter().all(|client| {
        client.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_sends_half_a_head_is_ended() {
    let status = status();
    let admin =
        Admin::start(([127, 0, 0, 1], 0).into(), Arc::clone(&status), &Metrics::new(status)).await.unwrap();
    // The clock goes on by itself when nothing else is to be done.
    let answer = ask(admin.address(), "GET /livez HTTP/1.1\r\nx").await;
    assert_eq!(answer, "");
}
