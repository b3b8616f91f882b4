//! Single requests and their answers: what is taken over, what is refused and how, and what HTTP allows.

use crate::support::{Bridge, Provider, Setup, chunk, head, post};

use Provider::{FastPix, Fastgen};

const JSON: &str = "application/json";

/// A genuine FastPix event with this id and type.
fn fastpix(id: &str, event_type: &str) -> Vec<u8> {
    format!(r#"{{"id":"{id}","type":"{event_type}","object":{{"type":"media","id":"m1"}}}}"#).into_bytes()
}

#[tokio::test]
async fn events_are_accepted_duplicate_or_ignored() {
    let bridge = Bridge::start(Setup::default()).await;
    let mut client = bridge.connect().await;
    let body = fastpix("e1", "video.media.ready");
    let response = client.ask(&FastPix.request(&body)).await;
    assert_eq!(response.taken(), "accepted");
    assert_eq!(response.body, br#"{"id":"e1","status":"accepted"}"#);
    assert_eq!(client.ask(&FastPix.request(&body)).await.taken(), "duplicate");
    let response = client.ask(&FastPix.request(&fastpix("e2", "it.ignored"))).await;
    assert_eq!(response.body, br#"{"id":"e2","status":"ignored"}"#);
    // The same id in another source is another event.
    let body = br#"{"id":"e1","event":"video.media.ready"}"#;
    assert_eq!(client.ask(&Fastgen.request(body)).await.taken(), "accepted");

    let [only] = &bridge.written("fastpix")[..] else { panic!("one line and no more") };
    let names = (only.id.as_str(), only.event_type.as_str(), only.subject.as_deref());
    assert_eq!(names, ("e1", "video.media.ready", Some("m1")));
    assert_eq!(bridge.written("fastgen").len(), 1);
}

#[tokio::test]
async fn each_kind_of_forgery_is_refused_with_its_reason_and_without_the_right_signature() {
    let bridge = Bridge::start(Setup::default()).await;
    let mut client = bridge.connect().await;
    for provider in Provider::ALL {
        let body = br#"{"id":"forged","type":"a.b","event":"a.b","object":{"id":"o"}}"#;
        let right = provider.signature(body);
        let name = provider.header();
        let wrong_key = provider.signature_under(&provider.wrong_secret(), body);
        let other_event = provider.signature(b"{\"id\":\"another\"}");
        let truncated = &right[..right.len() - 4];
        let (longer, prefixed) = (format!("{right}00"), format!("sha256={right}"));
        let mut cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
            ("signature_mismatch", vec![(name, &wrong_key)]),
            ("signature_mismatch", vec![(name, &other_event)]),
            ("bad_encoding", vec![(name, truncated)]),
            ("bad_encoding", vec![(name, &longer)]),
            ("bad_encoding", vec![(name, &prefixed)]),
            ("malformed_header", vec![(name, "")]),
            ("malformed_header", vec![(name, "s\u{ef}gnature")]),
            ("missing_header", vec![]),
            ("missing_header", vec![("x-signature", &right)]),
            ("duplicate_header", vec![(name, &right), (name, &right)]),
            ("duplicate_header", vec![(name, &wrong_key), (name, &right)]),
        ];
        let upper = right.to_uppercase();
        if provider == Fastgen {
            cases.push(("bad_encoding", vec![(name, &upper)]));
        }
        for (reason, headers) in cases {
            let headers = [&headers[..], &[("content-type", JSON)]].concat();
            let response = client.ask(&post(&provider.path(), &headers, body)).await;
            assert_eq!(response.problem(401), reason, "{provider:?} {headers:?}");
            let shown = format!("{response:?} {}", String::from_utf8_lossy(&response.body));
            assert!(!shown.contains(&right) && !shown.contains(&wrong_key), "{shown}");
        }
        // The signature of the body before one byte of it was changed.
        let changed = body.map(|byte| if byte == b'o' { b'p' } else { byte });
        let response = client.ask(&post(&provider.path(), &[(name, &right)], &changed)).await;
        assert_eq!(response.problem(401), "signature_mismatch");
        assert!(bridge.written(provider.name()).is_empty());
    }
    for secret in Provider::ALL.map(Provider::secret) {
        let text = String::from_utf8(secret.expose().to_vec()).unwrap();
        assert!(!bridge.log().contains(&text), "the log shows a secret");
    }
}

#[tokio::test]
async fn a_timestamp_outside_its_window_is_refused() {
    let more = "[sources.standard]\nprovider = \"standard-webhooks\"\nsecrets = [{ file = \"fastpix.secret\" }]\nack = \"sinks\"\n";
    let bridge = Bridge::start(Setup { more, ..Setup::default() }).await;
    let mut client = bridge.connect().await;
    let scheme = hookbus_core::Scheme::built_in("standard-webhooks").unwrap();
    let (now, hour) = (std::time::SystemTime::now(), std::time::Duration::from_secs(3600));
    let secret = FastPix.secret();
    let request = |now, id| {
        let to_sign = hookbus_core::verify::ToSign {
            secret: &secret,
            method: &http::Method::POST,
            url: "",
            id,
            event_type: "",
            now,
            body: b"{}",
        };
        let signed = scheme.sign(to_sign).unwrap();
        let headers: Vec<_> =
            signed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        post("/hooks/standard", &headers, b"{}")
    };
    assert_eq!(client.ask(&request(now - hour, "m1")).await.problem(401), "timestamp_too_old");
    assert_eq!(client.ask(&request(now + hour, "m2")).await.problem(401), "timestamp_in_future");
    assert_eq!(client.ask(&request(now, "m3")).await.taken(), "accepted");
    let headers = [("webhook-id", "m4"), ("webhook-timestamp", "now"), ("webhook-signature", "v1,AAAA")];
    assert_eq!(client.ask(&post("/hooks/standard", &headers, b"{}")).await.problem(401), "bad_encoding");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let bridge = Bridge::start(Setup::default()).await;
    let mut client = bridge.connect().await;
    for path in ["/", "/hooks", "/hooks/", "/hooks/other", "/hooks/fastpix/", "/hooks/FastPix", "/fastpix"] {
        assert_eq!(client.ask(&post(path, &[], b"{}")).await.problem(404), "not_found", "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let request = format!("{method} /hooks/fastpix HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let response = client.ask(request.as_bytes()).await;
        assert_eq!(response.problem(405), "method_not_allowed", "{method}");
        assert_eq!(response.header("allow"), Some("POST"));
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_whether_its_length_is_announced_or_not() {
    let bridge = Bridge::start(Setup { limits: "body = \"64KiB\"", ..Setup::default() }).await;
    let (fits, too_long) = (vec![b'x'; 65_536], vec![b'x'; 65_537]);
    for provider in Provider::ALL {
        let signature = provider.signature(&too_long);
        // Refused by its head: no byte of the body is sent.
        let length = too_long.len().to_string();
        let announced =
            head(&provider.path(), &[(provider.header(), &signature), ("content-length", &length)]);
        let mut client = bridge.connect().await;
        let response = client.ask(&announced).await;
        assert_eq!(response.problem(413), "body_too_large");
        assert!(response.is_last());

        let chunked = [(provider.header(), signature.as_str()), ("transfer-encoding", "chunked")];
        let mut client = bridge.connect().await;
        let request = [head(&provider.path(), &chunked), chunk(&too_long), chunk(b"")].concat();
        assert_eq!(client.ask(&request).await.problem(413), "body_too_large");

        let mut client = bridge.connect().await;
        assert_eq!(client.ask(&provider.request(&fits)).await.taken(), "accepted");
        assert_eq!(bridge.written(provider.name()).remove(0).body, fits);
    }
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let bridge = Bridge::start(Setup::default()).await;
    let body = fastpix("e1", "a.b");
    let signature = FastPix.signature(&body);
    let request = |padding: usize| {
        let padding = "x".repeat(padding);
        post("/hooks/fastpix", &[("fastpix-signature", &signature), ("x-padding", &padding)], &body)
    };
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&request(12 << 10)).await.taken(), "accepted");
    let response = client.ask(&request(20 << 10)).await;
    assert_eq!(response.problem(431), "head_too_large");
    assert!(response.is_last());
    client.ended().await;
}

#[tokio::test]
async fn deeply_nested_json_is_an_event_of_unknown_type() {
    let bridge = Bridge::start(Setup::default()).await;
    let mut client = bridge.connect().await;
    let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let named = format!(r#"{{"id":"deep","type":"a.b","event":"a.b","data":{deep}}}"#);
    for provider in Provider::ALL {
        for body in [&deep, &named] {
            assert_eq!(client.ask(&provider.request(body.as_bytes())).await.taken(), "accepted");
        }
        let written = bridge.written(provider.name());
        assert_eq!(written.len(), 2);
        assert_eq!(written[0].event_type, "unknown");
        assert!(written[0].body == deep.as_bytes() && written[1].body == named.as_bytes());
    }
}

#[tokio::test]
async fn the_probe_of_fastpix_is_answered_and_not_published() {
    for fastpix_secrets in ["[{ file = \"fastpix.secret\" }]", "[]"] {
        let bridge = Bridge::start(Setup { fastpix_secrets, ..Setup::default() }).await;
        let mut client = bridge.connect().await;
        for probe in [&b""[..], b"{}", b" {}\n"] {
            let response = client.ask(&post("/hooks/fastpix", &[("content-type", JSON)], probe)).await;
            assert_eq!(response.taken(), "ignored");
        }
        let chunked = head("/hooks/fastpix", &[("transfer-encoding", "chunked")]);
        let request = [chunked, chunk(b"{"), chunk(b"}"), chunk(b"")].concat();
        assert_eq!(client.ask(&request).await.taken(), "ignored");
        for no_probe in [&b"{ }"[..], b"{\"a\":1}", b"[]", b"{}                            "] {
            let response = client.ask(&post("/hooks/fastpix", &[], no_probe)).await;
            assert_eq!(response.problem(401), "missing_header");
        }
        assert_eq!(client.ask(&post("/hooks/fastgen", &[], b"{}")).await.problem(401), "missing_header");
        assert!(bridge.written("fastpix").is_empty());
    }
}

#[tokio::test]
async fn without_a_secret_events_are_to_come_again() {
    let bridge = Bridge::start(Setup { fastpix_secrets: "[]", ..Setup::default() }).await;
    let mut client = bridge.connect().await;
    let response = client.ask(&FastPix.request(&fastpix("e1", "a.b"))).await;
    assert_eq!(response.problem(503), "awaiting_secret");
    let after = response.header("retry-after").unwrap().parse::<u32>().unwrap();
    assert!((1..=3600).contains(&after), "{after}");
    // The other source is none the worse.
    assert_eq!(client.ask(&Fastgen.request(b"{\"id\":\"e1\"}")).await.taken(), "accepted");
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on_or_refused_at_once() {
    let bridge = Bridge::start(Setup::default()).await;
    let body = fastpix("e1", "a.b");
    let (length, signature) = (body.len().to_string(), FastPix.signature(&body));
    let asks = [("content-length", length.as_str()), ("expect", "100-continue")];
    let mut client = bridge.connect().await;
    let signed = [&asks[..], &[("fastpix-signature", &signature)]].concat();
    let interim = client.ask(&head("/hooks/fastpix", &signed)).await;
    assert_eq!(interim.status, 100);
    assert_eq!(client.ask(&body).await.taken(), "accepted");
    // Unsigned Fastgen requests can be refused by their heads.
    let refused = client.ask(&head("/hooks/fastgen", &asks)).await;
    assert_eq!(refused.problem(401), "missing_header");
}

#[tokio::test]
async fn a_connection_lives_on_behind_a_refusal() {
    let bridge = Bridge::start(Setup::default()).await;
    let mut client = bridge.connect().await;
    let body = fastpix("e1", "a.b");
    let wrong = FastPix.signature_under(&FastPix.wrong_secret(), &body);
    let forged = post("/hooks/fastpix", &[("fastpix-signature", &wrong)], &body);
    let unsigned = post("/hooks/fastgen", &[], &[b'x'; 10_000]);
    // All at once, as a client may: the answers come in the order of the requests.
    client.send(&[&forged[..], &unsigned, &FastPix.request(&body), &forged].concat()).await.unwrap();
    assert_eq!(client.receive().await.unwrap().problem(401), "signature_mismatch");
    assert_eq!(client.receive().await.unwrap().problem(401), "missing_header");
    assert_eq!(client.receive().await.unwrap().taken(), "accepted");
    let last = client.receive().await.unwrap();
    assert_eq!(last.problem(401), "signature_mismatch");
    assert!(!last.is_last());
    assert_eq!(client.ask(&FastPix.request(&body)).await.taken(), "duplicate");
}

#[tokio::test]
async fn a_body_in_chunks_is_taken_byte_for_byte() {
    let bridge = Bridge::start(Setup::default()).await;
    let mut client = bridge.connect().await;
    // Longer than a step of the byte budget, with all bytes there are, in chunks of many sizes.
    let body: Vec<u8> = (0..200_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let signature = Fastgen.signature(&body);
    let headers = [("x-fastgen-signature", signature.as_str()), ("transfer-encoding", "chunked")];
    let (mut request, mut rest, mut size) = (head("/hooks/fastgen", &headers), &body[..], 1);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        request.extend(chunk(piece));
        (rest, size) = (behind, size * 3 % 40_009);
    }
    // The last chunk with a trailer, which is no part of the body.
    request.extend(b"0\r\nx-trailer: 1\r\n\r\n");
    assert_eq!(client.ask(&request).await.taken(), "accepted");
    assert!(bridge.written("fastgen").remove(0).body == body);
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let bridge = Bridge::start(Setup::default()).await;
    let mut client = bridge.connect().await;
    let body = fastpix("e1", "a.b");
    let request = FastPix.request(&body);
    let length = body.len().to_string();
    let signature = FastPix.signature(&body);
    for byte in &request {
        client.send(&[*byte]).await.unwrap();
        // Lets the bridge read it alone, mostly.
        tokio::task::yield_now().await;
    }
    assert_eq!(client.receive().await.unwrap().taken(), "accepted");
    assert_eq!(bridge.written("fastpix").remove(0).body, body);
    let headers = [("fastpix-signature", signature.as_str()), ("content-length", &length)];
    client.send(&head("/hooks/fastpix", &headers)).await.unwrap();
    for byte in &body {
        client.send(&[*byte]).await.unwrap();
    }
    assert_eq!(client.receive().await.unwrap().taken(), "duplicate");
}

#[tokio::test]
async fn broken_http_is_refused() {
    let bridge = Bridge::start(Setup::default()).await;
    for broken in [
        "SSH-2.0-client\r\n\r\n",
        "POST /hooks/fastpix HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        "POST /hooks/fastpix HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST /hooks/fastpix HTTP/1.1\r\nno colon\r\n\r\n",
        "POST /hooks/fastpix HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        let mut client = bridge.connect().await;
        let response = client.ask(broken.as_bytes()).await;
        assert_eq!(response.problem(400), "broken_request", "{broken:?}");
        client.ended().await;
    }
}
