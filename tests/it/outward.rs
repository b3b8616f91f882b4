//! What goes out in another form than it came: masked, in an envelope, with its trace; and what its sender hears.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{Bridge, Provider::FastPix, post, until};

/// A genuine request with more headers.
fn request(body: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let signature = FastPix.signature(body.as_bytes());
    let headers = [(FastPix.header(), signature.as_str()), ("content-type", "application/json")];
    post(&FastPix.path(), &[&headers, more].concat(), body.as_bytes())
}

/// A configuration with these keys of the source, and these destinations at a `file` sink.
fn config(source: &str, to: &str) -> String {
    format!(
        r#"[server]
listen = "127.0.0.1:0"
[sources.fastpix]
provider = "fastpix"
secrets = [{{ file = "fastpix.secret" }}]
ack-timeout = "30s"
{source}
[sinks.lines]
type = "file"
dir = "events"
[[routes]]
name = "all"
types = ["*", "!it.ignored"]
to = [{to}]
"#
    )
}

/// The lines of a file, once there are so many.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    let read = || fs::read_to_string(path).unwrap_or_default();
    until("the events are written", || read().matches('\n').count() >= count).await;
    read().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const REDACT: &str = r#"redact = ["/data/streamKey", "/data/tokens/0/key"]"#;
const LIVE: &str = r#"{"id":"1","type":"it.live","data":{ "streamKey": "s3cr3t", "\u0073treamKey" : 5, "n":1.50, "tokens":[{"key":["s3cr3t"]},{"key":7}]}}"#;
const MASKED: &str = r#"{"id":"1","type":"it.live","data":{ "streamKey": "***", "\u0073treamKey" : "***", "n":1.50, "tokens":[{"key":"***"},{"key":7}]}}"#;

#[tokio::test]
async fn what_must_not_be_seen_is_masked_where_a_route_says_so_and_wherever_it_is_shown() {
    let to = r#"{ sink = "lines", path = "masked.ndjson", redact = true }, { sink = "lines", path = "whole.ndjson" },
                { sink = "lines", path = "{body:/tenant}.ndjson", redact = true }"#;
    let mut bridge = Bridge::start_with(&config(REDACT, to)).await;
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&request(LIVE, &[])).await.taken(), "accepted");
    let whole = lines(&bridge.path("events/whole.ndjson"), 1).await.remove(0);
    assert!(whole["hookbusproof"].is_string() && whole["hookbusredacted"].is_null());
    let masked = lines(&bridge.path("events/masked.ndjson"), 1).await.remove(0);
    assert!(masked["hookbusproof"].is_null());
    assert_eq!(masked["hookbusredacted"], r#"["/data/streamKey","/data/tokens/0/key"]"#);
    let text = |bridge: &Bridge, name: &str| fs::read_to_string(bridge.path(name)).unwrap();
    assert!(text(&bridge, "events/whole.ndjson").contains(&format!(r#""data":{LIVE}}}"#)));
    assert!(
        text(&bridge, "events/masked.ndjson").contains(&format!(r#""data":{MASKED}}}"#)),
        "byte for byte around it"
    );

    // The third destination had no address: its dead letter is kept whole and shown masked.
    let form = "streamKey=s3cr3t";
    assert_eq!(client.ask(&request(form, &[])).await.taken(), "accepted");
    assert_eq!(
        client.ask(&request(&LIVE.replace("\"1\"", "\"2\""), &[("content-encoding", "br")])).await.taken(),
        "accepted"
    );
    let reasons = bridge.command(&["dead-letters", "list", "--json"]);
    let reasons: Vec<Value> = reasons.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |reason: &str| reasons.iter().filter(|letter| letter["reason"] == reason).count();
    assert_eq!((count("unaddressable"), count("unredactable")), (3, 2), "{reasons:?}");
    let shown = |bridge: &Bridge| {
        for letter in &reasons {
            let shown = bridge.command(&["dead-letters", "show", &letter["id"].to_string()]);
            assert!(
                !shown.contains("s3cr3t") && shown.contains("***") != shown.contains("IioqKiI"),
                "{shown}"
            );
        }
    };
    shown(&bridge);
    bridge.stop().await;
    shown(&bridge);
    assert_eq!(text(&bridge, "events/whole.ndjson").lines().count(), 3);
    assert_eq!(
        text(&bridge, "events/masked.ndjson").lines().count(),
        1,
        "what cannot be masked goes nowhere where it must be"
    );
    assert!(!bridge.log().contains("s3cr3t"));
}

#[tokio::test]
async fn what_was_accepted_keeps_its_form_whatever_the_configuration_says_later() {
    let to = |form: &str| format!(r#"{{ sink = "lines", path = "{{source}}-live.ndjson"{form} }}"#);
    let mut bridge = Bridge::start_with(&config(REDACT, &to(", redact = true"))).await;
    // In the way of the file, until the bridge is another one.
    let path = bridge.path("events/fastpix-live.ndjson");
    fs::create_dir_all(&path).unwrap();
    let mut client = bridge.connect().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = [("traceparent", parent), ("tracestate", "congo=t61rcWkgMzE")];
    assert_eq!(client.ask(&request(LIVE, &trace)).await.taken(), "accepted");
    bridge.kill().await;
    fs::write(bridge.path("hookbus.toml"), config("", &to(""))).unwrap();
    fs::remove_dir(&path).unwrap();
    bridge.start_again();
    bridge.listens().await;
    lines(&path, 1).await;
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&request(&LIVE.replace("\"1\"", "\"2\""), &[])).await.taken(), "accepted");
    let (lines, text) = (lines(&path, 2).await, fs::read_to_string(&path).unwrap());
    assert_eq!((&lines[0]["id"], &lines[1]["id"]), (&"1".into(), &"2".into()));
    assert!(text.lines().next().unwrap().contains(&format!(r#""data":{MASKED}}}"#)), "{text}");
    assert!(lines[1]["hookbusproof"].is_string() && text.lines().nth(1).unwrap().contains("s3cr3t"));
    // And its trace, which nobody signed.
    assert_eq!(
        (&lines[0]["traceparent"], &lines[0]["tracestate"]),
        (&parent.into(), &"congo=t61rcWkgMzE".into())
    );
    assert_eq!(lines[0]["hookbusunsigned"], "datacontenttype,traceparent,tracestate");
    assert!(lines[1]["traceparent"].as_str().unwrap().ends_with("-03"), "one begins here");
    assert_eq!(lines[1]["hookbusunsigned"], "datacontenttype");
    bridge.stop().await;
}

#[tokio::test]
async fn a_source_answers_in_its_own_words_and_refuses_what_is_too_old() {
    let source = "respond = { status = 202, body = \"[accepted]\" }\nmax-event-age = \"1h\"";
    let mut bridge = Bridge::start_with(&config(source, r#"{ sink = "lines" }"#)).await;
    let mut client = bridge.connect().await;
    for event_type in ["it.live", "it.live", "it.ignored"] {
        let answer = client.ask(&request(&format!(r#"{{"id":"1","type":"{event_type}"}}"#), &[])).await;
        assert_eq!((answer.status, &*answer.body), (202, &b"[accepted]"[..]), "{event_type}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    let forged = post(&FastPix.path(), &[(FastPix.header(), &FastPix.signature(b"{}"))], b"[]");
    assert_eq!(client.ask(&forged).await.problem(401), "signature_mismatch");
    let old = r#"{"id":"3","type":"it.live","createdAt":"2026-01-12T06:43:14Z"}"#;
    assert_eq!(client.ask(&request(old, &[])).await.problem(401), "event_too_old");
    // The test of the URL is no event.
    assert_eq!(client.ask(&post(&FastPix.path(), &[], b"{}")).await.taken(), "ignored");
    lines(&bridge.path("events/events.ndjson"), 1).await;
    bridge.stop().await;
    assert_eq!(fs::read_to_string(bridge.path("events/events.ndjson")).unwrap().lines().count(), 1);
}
