//! The admin listener: the figures are those of the traffic, and readiness is the truth.

use hookbus_brokers::{Broker, Kind, Options, private};
use rustix::process::Signal;
use tokio::{task::spawn_blocking, time::Instant};

use crate::support::{Bridge, Client, Figures, PATIENCE, Provider, Setup, head, in_company, post};

use Provider::{FastPix, Fastgen};

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

fn setup() -> Setup {
    Setup { more: ADMIN, ..Setup::default() }
}

/// Reads the figures until it holds of them: what is counted behind an answer may take a moment.
async fn figures(bridge: &mut Bridge, what: &str, holds: impl Fn(&Figures) -> bool) -> Figures {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = bridge.admin("/metrics").await;
        let content_type = Some("application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert_eq!((response.status, response.header("content-type")), (200, content_type));
        let figures = Figures::parse(std::str::from_utf8(&response.body).unwrap());
        if holds(&figures) {
            return figures;
        }
        assert!(Instant::now() < deadline, "it did not come to this: {what}\n{figures:#?}");
    }
}

/// Waits for this word of `/readyz`, and returns what it says then.
async fn readiness(bridge: &mut Bridge, word: &str) -> serde_json::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = bridge.admin("/readyz").await;
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let said = response.json();
        assert_eq!(response.status == 200, said["status"] == "ready", "{said}");
        if said["status"] == word {
            return said;
        }
        assert!(Instant::now() < deadline, "it does not become {word}: {said}");
    }
}

#[tokio::test]
async fn figures_add_up() {
    const ACCEPTED: usize = 20;
    const DUPLICATES: usize = 7;
    const FORGED: usize = 5;
    const IGNORED: usize = 3;
    let mut bridge = Bridge::start(setup()).await;
    let mut client = bridge.connect().await;
    let body = |number: usize| format!(r#"{{"id":"e{number}","type":"it.event"}}"#).into_bytes();
    let (mut bytes, mut sent) = (0, 0);
    for number in 0..ACCEPTED {
        let request = FastPix.request(&body(number));
        (bytes, sent) = (bytes + body(number).len(), sent + request.len());
        assert_eq!(client.ask(&request).await.taken(), "accepted");
    }
    for number in 0..DUPLICATES {
        let request = FastPix.request(&body(number));
        (bytes, sent) = (bytes + body(number).len(), sent + request.len());
        assert_eq!(client.ask(&request).await.taken(), "duplicate");
    }
    for number in 0..FORGED {
        let signature = FastPix.signature_under(&FastPix.wrong_secret(), &body(number));
        let request = post(&FastPix.path(), &[(FastPix.header(), &signature)], &body(number));
        (bytes, sent) = (bytes + body(number).len(), sent + request.len());
        assert_eq!(client.ask(&request).await.problem(401), "signature_mismatch");
    }
    for number in 0..IGNORED {
        let body = format!(r#"{{"id":"i{number}","type":"it.ignored"}}"#).into_bytes();
        let request = FastPix.request(&body);
        (bytes, sent) = (bytes + body.len(), sent + request.len());
        assert_eq!(client.ask(&request).await.taken(), "ignored");
    }
    let unsigned = post(&Fastgen.path(), &[], b"{\"a\":1,\"b\":2,\"c\":3}");
    let others: [(&[u8], u16); 4] = [
        (&unsigned, 401),
        (b"GET /hooks/fastgen HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b"POST /hooks/nobody HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 404),
        (b"no HTTP at all\r\n\r\n", 400),
    ];
    for (request, status) in others {
        sent += request.len();
        client.ask(request).await.problem(status);
    }
    client.ended().await;

    let done = |figures: &Figures| {
        figures.get("hookbus_http_connections", &[]) == 0.0
            && figures.get("hookbus_sink_batches_in_flight", &[("sink", "lines")]) == 0.0
            && figures.get("hookbus_sink_pending_events", &[("sink", "lines")]) == 0.0
    };
    let figures = figures(&mut bridge, "everything is done", done).await;
    let answered = |source: &str, answer: &str| {
        figures.get("hookbus_requests_total", &[("source", source), ("answer", answer)]) as usize
    };
    assert_eq!(answered("fastpix", "accepted"), ACCEPTED);
    assert_eq!(answered("fastpix", "duplicate"), DUPLICATES);
    assert_eq!(answered("fastpix", "refused"), FORGED);
    assert_eq!(answered("fastpix", "ignored"), IGNORED);
    assert_eq!((answered("fastgen", "refused"), answered("fastgen", "method_not_allowed")), (1, 1));
    assert_eq!((answered("", "not_found"), answered("", "broken_request")), (1, 1));
    let of_fastpix = ACCEPTED + DUPLICATES + FORGED + IGNORED;
    for (source, requests) in [("fastpix", of_fastpix), ("fastgen", 2), ("", 2)] {
        assert_eq!(figures.sum("hookbus_requests_total", ("source", source)) as usize, requests, "{source}");
    }
    let fastpix = [("source", "fastpix")];
    let refused = |source, reason| {
        figures.get("hookbus_requests_refused_total", &[("source", source), ("reason", reason)]) as usize
    };
    assert_eq!(refused("fastpix", "signature_mismatch"), FORGED);
    assert_eq!(refused("fastgen", "missing_header"), 1);
    assert_eq!(figures.get("hookbus_request_duration_seconds_count", &fastpix) as usize, of_fastpix);
    assert!(figures.get("hookbus_request_duration_seconds_sum", &fastpix) > 0.0);
    assert_eq!(figures.get("hookbus_request_body_bytes_total", &fastpix) as usize, bytes);
    assert_eq!(figures.get("hookbus_http_received_bytes_total", &[]) as usize, sent);
    assert_eq!(figures.get("hookbus_http_connections_accepted_total", &[]), 1.0);

    let lines = [("sink", "lines")];
    assert_eq!(figures.get("hookbus_sink_delivered_events_total", &lines) as usize, ACCEPTED);
    assert_eq!(figures.sum("hookbus_sink_attempts_total", lines[0]) as usize, ACCEPTED);
    assert_eq!(figures.get("hookbus_sink_batch_events_sum", &lines) as usize, ACCEPTED);
    let batches = figures.get("hookbus_sink_batch_events_count", &lines);
    assert_eq!(figures.get("hookbus_sink_publish_duration_seconds_count", &lines), batches);
    assert_eq!(figures.sum("hookbus_sink_errors_total", lines[0]), 0.0);
    assert_eq!(figures.get("hookbus_sink_state", &[("sink", "lines"), ("state", "ready")]), 1.0);
    assert_eq!(figures.sum("hookbus_sink_state", lines[0]), 1.0);
    assert_eq!(figures.get("hookbus_ready", &[]), 1.0);
    assert_eq!(bridge.written("fastpix").len(), ACCEPTED);
    bridge.stop().await;
}

#[tokio::test]
async fn a_required_sink_that_dies_makes_it_unready_until_it_is_back() {
    let _in_company = in_company().await;
    let Some(mut broker) = spawn_blocking(|| private(Kind::Redis, &Options::default())).await.unwrap() else {
        return;
    };
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n{ADMIN}[sources.fastpix]\nprovider = \"fastpix\"\n\
         secrets = [{{ file = \"fastpix.secret\" }}]\nack = \"sinks\"\n[sinks.bus]\ntype = \"redis\"\nurl = \"redis://{}\"\n\
         [[routes]]\nname = \"all\"\nto = [{{ sink = \"bus\", stream = \"s\" }}]\n",
        broker.address()
    );
    let mut bridge = Bridge::start_with(&config).await;
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&FastPix.request(b"{\"id\":\"before\"}")).await.taken(), "accepted");
    let said = readiness(&mut bridge, "ready").await;
    assert_eq!(said["sinks"][0]["state"], "ready", "{said}");
    broker = away(broker, Broker::kill).await;
    assert_eq!(client.ask(&FastPix.request(b"{\"id\":\"during\"}")).await.problem(503), "not_delivered");
    let said = readiness(&mut bridge, "not-ready").await;
    assert_eq!((&said["sinks"][0]["state"], &said["sinks"][0]["required"]), (&"down".into(), &true.into()));
    assert_eq!(said["sinks"][0]["error"], "unavailable", "{said}");
    assert_eq!(bridge.admin("/livez").await.status, 200);
    let down =
        |figures: &Figures| figures.get("hookbus_sink_state", &[("sink", "bus"), ("state", "down")]) == 1.0;
    let figures = figures(&mut bridge, "the sink is down", down).await;
    assert_eq!(figures.get("hookbus_ready", &[]), 0.0);
    let answer = [("source", "fastpix"), ("answer", "not_delivered")];
    assert_eq!(figures.get("hookbus_requests_total", &answer), 1.0);
    let _broker = away(broker, Broker::restart).await;
    readiness(&mut bridge, "ready").await;
    assert_eq!(client.ask(&FastPix.request(b"{\"id\":\"after\"}")).await.taken(), "accepted");
    bridge.stop().await;
}

/// Does something to the broker on a thread that may wait.
async fn away(mut broker: Broker, what: fn(&mut Broker) -> hookbus_brokers::Result<()>) -> Broker {
    spawn_blocking(move || {
        what(&mut broker).unwrap();
        broker
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn while_it_drains_it_is_alive_and_not_ready() {
    let timeouts = "body = \"1h\", grace = \"1h\"";
    let mut bridge = Bridge::start(Setup { timeouts, ..setup() }).await;
    readiness(&mut bridge, "ready").await;
    let body = b"{\"id\":\"upload\"}";
    let (signature, length) = (FastPix.signature(body), body.len().to_string());
    let headers =
        [(FastPix.header(), signature.as_str()), ("content-length", &length), ("expect", "100-continue")];
    let mut upload = bridge.connect().await;
    assert_eq!(upload.ask(&head(&FastPix.path(), &headers)).await.status, 100);
    bridge.signal(Signal::TERM);
    readiness(&mut bridge, "stopping").await;
    assert_eq!(bridge.admin("/livez").await.status, 200);
    // The request keeps it from ending, so these are the figures of a bridge that drains.
    figures(&mut bridge, "it is not ready", |figures| figures.get("hookbus_ready", &[]) == 0.0).await;
    assert_eq!(upload.ask(body).await.taken(), "accepted");
    let admin = bridge.admin_address().await;
    assert_eq!(bridge.exit_code().await, 0);
    assert!(Client::connect(admin).await.is_err());
}
