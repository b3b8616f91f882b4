//! The recorded handshakes, asked of the real binary: answered to the byte, counted, and never published.

use std::{collections::BTreeMap, fs, path::Path, time::SystemTime};

use hookbus_core::{Scheme, Secret, verify::ToSign};
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{Bridge, Figures, PATIENCE, Provider, post};

/// A seed, which is Discord's private key, and the public key that belongs to it (RFC 8032, section 7.1, test 1).
const DISCORD: (&str, &str) = (
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
);

/// A recorded case, at a source of its own.
struct Case {
    source: String,
    provider: String,
    vector: Value,
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/handshakes.json");
    let vectors: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let case = |(at, vector): (usize, Value)| Case {
        source: format!("case-{at}"),
        provider: vector["provider"].as_str().unwrap().to_owned(),
        vector,
    };
    vectors.into_iter().enumerate().map(case).collect()
}

impl Case {
    fn says(&self) -> String {
        format!("{} {}", self.provider, self.vector["name"])
    }

    /// What the provider signs with, and what is configured.
    fn secrets(&self) -> (String, String) {
        if self.provider == "discord" {
            return (DISCORD.0.into(), DISCORD.1.into());
        }
        // Also base64, as FastPix has it.
        let secret = self.vector["secrets"][0].as_str().unwrap_or("aG9va2J1cyBoYW5kc2hha2UgdGVzdCBzZWNyZXQh");
        (secret.into(), secret.into())
    }

    fn config(&self, secrets: bool) -> String {
        let Self { source, provider, .. } = self;
        let rules = match provider.as_str() {
            "microsoft-graph" => {
                "scheme = { alg = \"hmac-sha256\", sig = { headers = [\"x-sig\"], encoding = \"hex\" }, \
                                  signed = \"{body}\", handshake = \"microsoft-graph\" }"
                    .to_owned()
            }
            _ => format!("provider = \"{provider}\""),
        };
        let secrets = if secrets { format!("{{ file = \"{source}.secret\" }}") } else { String::new() };
        let token = match self.vector["config"]["verify_token"].as_str() {
            Some(_) => format!("verify-token = {{ file = \"{source}.token\" }}\n"),
            None => String::new(),
        };
        format!("[sources.{source}]\n{rules}\nsecrets = [{secrets}]\n{token}ack = \"sinks\"\n")
    }

    fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![(format!("{}.secret", self.source), self.secrets().1)];
        if let Some(token) = self.vector["config"]["verify_token"].as_str() {
            files.push((format!("{}.token", self.source), format!("{token}\n")));
        }
        files
    }

    /// The bytes of its request, signed now where it has to be.
    fn request(&self) -> Vec<u8> {
        let request = &self.vector["request"];
        let method = request["method"].as_str().unwrap();
        let body = request["body"].as_str().unwrap_or_default();
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for header in request["headers"].as_array().into_iter().flatten() {
            headers
                .insert(header[0].as_str().unwrap().to_lowercase(), header[1].as_str().unwrap().to_owned());
        }
        if ["slack", "zoom", "discord", "twitch"].contains(&self.provider.as_str()) {
            let secret = Secret::new(self.secrets().0);
            let id = headers.get("twitch-eventsub-message-id").cloned().unwrap_or_default();
            let to_sign = ToSign {
                secret: &secret,
                method: &http::Method::POST,
                url: "",
                id: &id,
                event_type: "",
                now: SystemTime::now(),
                body: body.as_bytes(),
            };
            let scheme = Scheme::built_in(&self.provider).unwrap();
            for (name, value) in scheme.sign(to_sign).unwrap() {
                headers.insert(name.as_str().to_owned(), value.to_str().unwrap().to_owned());
            }
        }
        if method == "POST" {
            headers.insert("content-length".into(), body.len().to_string());
        }
        let query: Vec<_> = request["query"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value.as_str().unwrap())))
            .collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let mut text = format!("{method} /hooks/{}{query} HTTP/1.1\r\nhost: localhost\r\n", self.source);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        format!("{text}\r\n{body}").into_bytes()
    }
}

/// Percent-encoded, all but letters and digits.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A bridge with these sources and FastPix, all of whose events go to a file.
async fn start(sources: &str, files: &[(String, String)]) -> Bridge {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nlimits = {{ connections-per-address = 1024 }}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [sources.fastpix]\nprovider = \"fastpix\"\nsecrets = [{{ file = \"fastpix.secret\" }}]\nack = \"sinks\"\n\
         {sources}[sinks.lines]\ntype = \"file\"\ndir = \"events\"\n\
         [[routes]]\nname = \"all\"\nto = [{{ sink = \"lines\", path = \"{{source}}.ndjson\" }}]\n"
    );
    Bridge::start_among(&config, files).await
}

/// The files of events there are.
fn published(bridge: &Bridge) -> Vec<String> {
    let folder = fs::read_dir(bridge.path("events")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".ndjson")).collect()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn every_recorded_handshake_is_answered_and_nothing_of_it_is_published() {
    let cases = cases();
    assert_eq!(cases.len(), 13);
    let sources: String = cases.iter().map(|case| case.config(true)).collect();
    let files: Vec<_> = cases.iter().flat_map(Case::files).collect();
    let mut bridge = start(&sources, &files).await;
    let mut client = bridge.connect().await;
    let mut answered = 0;
    for case in &cases {
        let response = client.ask(&case.request()).await;
        let expected = &case.vector["response"];
        assert_eq!(expected["status"], response.status, "{}: {response:?}", case.says());
        if let Some(content_type) = expected["content_type"].as_str() {
            assert_eq!(response.header("content-type"), Some(content_type), "{}", case.says());
        }
        if let Some(body) = expected["body"].as_str() {
            assert_eq!(response.body, body.as_bytes(), "{}", case.says());
        }
        if let Some(json) = expected.get("json") {
            assert_eq!(response.header("content-type"), Some("application/json"), "{}", case.says());
            assert_eq!(response.json(), *json, "{}", case.says());
        }
        if response.status < 300 {
            answered += 1;
            assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{}", case.says());
            assert_eq!(response.header("cache-control"), Some("no-store"), "{}", case.says());
        }
        assert!(!response.is_last(), "{}", case.says());
    }
    assert_eq!(answered, 11);
    // An event shows that what is published is seen.
    assert_eq!(client.ask(&Provider::FastPix.request(b"{\"id\":\"1\"}")).await.taken(), "accepted");
    assert_eq!(bridge.written("fastpix").len(), 1);
    assert_eq!(published(&bridge), ["fastpix.ndjson"]);

    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = bridge.admin("/metrics").await;
        let figures = Figures::parse(std::str::from_utf8(&response.body).unwrap());
        if figures.sum("hookbus_requests_total", ("answer", "handshake")) == 11.0 {
            assert_eq!(figures.sum("hookbus_requests_total", ("answer", "accepted")), 1.0);
            assert_eq!(figures.sum("hookbus_requests_refused_total", ("reason", "wrong_verify_token")), 1.0);
            break;
        }
        assert!(Instant::now() < deadline, "{figures:?}");
    }
    bridge.logged_times("handshake answered", 11).await;
    bridge.stop().await;
    // Once for each source, and nothing of what was asked or is secret.
    assert_eq!(bridge.times_logged("handshake answered"), 11);
    let log = bridge.log();
    assert!(log.contains("zoom endpoint.url_validation"));
    for secret in [
        "vt-jZqGaRvdB1uy",
        "1158201444",
        "5NJnxjiv89PJcUwEPxHXhDHrnEif07",
        "Wyw4GwHiPVhEdfp7v4UXKu",
        "a14786399299c87e",
        "56df90d1",
        "bPoknMybxzs8sGqTr2UJIvfr",
        "eEoYqXAFcJGwfsIe8lHFSKVPD7ZtCc",
        "cP6mlsREZpyzwSJ",
        "zoom-secret",
    ] {
        assert!(!log.contains(secret), "the log shows {secret}");
    }
}

#[tokio::test]
async fn while_a_secret_is_awaited_the_unsigned_ones_are_answered() {
    let cases = cases();
    let sources: String = cases.iter().map(|case| case.config(false)).collect();
    let files: Vec<_> = cases.iter().flat_map(Case::files).collect();
    let bridge = start(&sources, &files).await;
    let mut client = bridge.connect().await;
    for case in &cases {
        let response = client.ask(&case.request()).await;
        if ["slack", "zoom", "twitch", "discord", "x"].contains(&case.provider.as_str()) {
            assert_eq!(response.problem(503), "awaiting_secret", "{}", case.says());
            assert!(response.header("retry-after").is_some());
        } else {
            assert_eq!(case.vector["response"]["status"], response.status, "{}: {response:?}", case.says());
        }
    }
}

#[tokio::test]
async fn a_get_is_for_handshakes_and_a_handshake_for_those_who_may() {
    let sources = "[sources.pages]\nprovider = \"meta\"\nsecrets = []\nverify-token = { file = \"pages.token\" }\n\
                   [sources.drop]\nprovider = \"dropbox\"\nsecrets = []\n\
                   [sources.x]\nprovider = \"x\"\nsecrets = [{ file = \"fastpix.secret\" }]\n\
                   [sources.slack]\nprovider = \"slack\"\nsecrets = [{ file = \"fastpix.secret\" }]\n";
    let bridge = start(sources, &[("pages.token".into(), "agreed-on".into())]).await;
    let mut client = bridge.connect().await;
    for (method, source, allow) in [
        ("PUT", "pages", "GET, POST"),
        ("OPTIONS", "drop", "GET, POST"),
        ("DELETE", "x", "GET, POST"),
        ("GET", "slack", "POST"),
        ("GET", "fastpix", "POST"),
    ] {
        let request = format!("{method} /hooks/{source}?challenge=1 HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let response = client.ask(request.as_bytes()).await;
        assert_eq!(response.problem(405), "method_not_allowed", "{method} {source}");
        assert_eq!(response.header("allow"), Some(allow), "{method} {source}");
    }
    let meta = |token: &str, challenge: &str| {
        get(&format!("/hooks/pages?hub.mode=subscribe&hub.verify_token={token}&hub.challenge={challenge}"))
    };
    let response = client.ask(&meta("agreed-on", "a+b%2Fc")).await;
    assert_eq!((response.status, &response.body[..]), (200, &b"a b/c"[..]));
    for (request, reason) in [
        (meta("wrong", "1"), "wrong_verify_token"),
        (meta("", "1"), "wrong_verify_token"),
        (get("/hooks/pages?hub.mode=subscribe&hub.challenge=1"), "wrong_verify_token"),
        (get("/hooks/pages?hub.mode=subscribe&hub.verify_token=agreed-on"), "missing_challenge"),
        (get("/hooks/pages"), "missing_challenge"),
        (meta("agreed-on", "1&hub.challenge=2"), "malformed_challenge"),
        (meta("agreed-on", "%3Cscript%3Ealert(1)%3C/script%3E"), "malformed_challenge"),
        (meta("agreed-on", "a%0D%0ASet-Cookie:%20x=y"), "malformed_challenge"),
        (get(&format!("/hooks/drop?challenge={}", "x".repeat(513))), "malformed_challenge"),
        (get("/hooks/drop?challenge=%FF"), "malformed_challenge"),
        (get("/hooks/x?crc_token=%7B%22for_user_id%22%3A1%7D"), "malformed_challenge"),
        (get("/hooks/x?crc_token="), "malformed_challenge"),
        (get("/hooks/x"), "missing_challenge"),
    ] {
        let response = client.ask(&request).await;
        assert_eq!(response.problem(403), reason, "{}", String::from_utf8_lossy(&request));
    }
    // What X was asked to sign is the signature of no event.
    let answer = client.ask(&get("/hooks/x?crc_token=12345")).await.json();
    let signature = answer["response_token"].as_str().unwrap();
    let forged = post("/hooks/x", &[("x-twitter-webhooks-signature", signature)], b"12345");
    assert_eq!(client.ask(&forged).await.problem(401), "signature_mismatch");
    // A handshake with a body too long to be one.
    let long = format!(
        "GET /hooks/drop?challenge=1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000\r\n\r\n{}",
        "x".repeat(5000)
    );
    assert_eq!(client.ask(long.as_bytes()).await.problem(413), "body_too_large");
    assert!(published(&bridge).is_empty());
}
