//! Requests that are not accepted: what is kept of them, what is said of them, and what never is.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hookbus_core::Secret;
use serde_json::{Value, json};

use crate::support::{Bridge, Client, Figures, Provider, Setup, post, until};

use Provider::{FastPix, Fastgen};

/// A record where no source needs a data folder, and two sources of bearer schemes: GitLab's, and one of our own.
const RECORD: &str = r#"
[rejected]
[sources.gitlab]
provider = "gitlab-token"
secrets = [{ file = "fastgen.secret" }]
ack = "sinks"
[sources.own]
secrets = [{ file = "fastgen.secret" }]
ack = "sinks"
rejected = "heads"
scheme = { alg = "equality", sig = { headers = ["Authorization"], encoding = "raw" }, signed = "" }
"#;

/// The one that runs or the folder alone: both know the same.
fn list(bridge: &Bridge, filter: &[&str]) -> Vec<Value> {
    let list = bridge.command(&[&["rejected", "list", "--json"], filter].concat());
    list.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn show(bridge: &Bridge, line: &Value) -> Value {
    let shown = bridge.command(&["rejected", "show", &line["id"].to_string(), "--json"]);
    serde_json::from_str(&shown).unwrap()
}

/// Waits until so many are kept: they are written behind their answers.
async fn kept(bridge: &Bridge, count: usize) -> Vec<Value> {
    until("they are kept", || list(bridge, &[]).len() >= count).await;
    let kept = list(bridge, &[]);
    assert_eq!(kept.len(), count, "{kept:#?}");
    kept
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn what_was_refused_is_listed_and_explained_with_a_bridge_and_without() {
    let mut bridge = Bridge::start(Setup { more: RECORD, ..Setup::default() }).await;
    let mut client = bridge.connect().await;
    let body = br#"{"id":"e1", "type":"it.event"}"#;
    let genuine = FastPix.signature(body);
    let refused = |signature: &str, body: &[u8]| {
        post(&FastPix.path(), &[(FastPix.header(), signature), ("user-agent", "it/1")], body)
    };
    let compact = br#"{"id":"e1","type":"it.event"}"#;
    // What is made of the secret by whoever takes it as it is displayed, and does not decode it.
    let text = Secret::new(STANDARD.encode(FastPix.secret().expose()));
    let altered = [&body[..], b"\n"].concat();
    let requests = [
        (FastPix.signature_under(&FastPix.wrong_secret(), body), &body[..], "no usual mistake explains it"),
        (FastPix.signature_under(&text, body), body, "the secret's text"),
        (FastPix.signature(compact), body, "parsed and written again"),
        (genuine.clone(), &altered, "white space at the end"),
        (genuine, b"{}", "no usual mistake explains it"),
    ];
    for (signature, body, _) in &requests {
        assert_eq!(client.ask(&refused(signature, body)).await.problem(401), "signature_mismatch");
    }
    let unsigned = post(&FastPix.path(), &[("stripe-signature", "t=1,v1=00")], b"{\"a\":1,\"b\":2,\"c\":3}");
    assert_eq!(client.ask(&unsigned).await.problem(401), "missing_header");
    let mut client = bridge.connect().await;
    let get = b"GET /hooks/fastpix?challenge=secret HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(client.ask(get).await.problem(405), "method_not_allowed");
    // Accepted, and of no source: not here.
    assert_eq!(client.ask(&FastPix.request(body)).await.taken(), "accepted");
    assert_eq!(client.ask(&post("/hooks/nobody", &[], b"")).await.problem(404), "not_found");

    let all = kept(&bridge, 7).await;
    let reasons: Vec<_> = all.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    let mismatches = ["signature_mismatch"; 5];
    assert_eq!(reasons, [&["method_not_allowed", "missing_header"], &mismatches[..]].concat());
    assert!(all.iter().all(|line| line["client"] == "127.0.0.1" && line["source"] == "fastpix"));
    assert!(all.iter().all(|line| line["details"].is_null()), "a list has no headers and no bodies");
    assert_eq!((&all[0]["method"], &all[0]["query"]), (&"GET".into(), &"challenge=***".into()));
    assert_eq!(list(&bridge, &["--reason", "missing_header"]), all[1..2]);
    assert_eq!(list(&bridge, &["--limit", "2"]), all[..2]);
    assert_eq!(list(&bridge, &["--source", "gitlab"]), [Value::Null; 0]);
    assert_eq!(list(&bridge, &["--since", "1h"]).len(), 7);
    assert_eq!(list(&bridge, &["--since", "2999-01-01T00:00:00Z"]).len(), 0);

    let explained = |bridge: &Bridge| {
        for (line, (signature, body, finding)) in all.iter().rev().zip(&requests) {
            let shown = show(bridge, line);
            let findings = shown["details"]["findings"].to_string();
            assert!(findings.contains(finding), "{finding}: {shown:#}");
            let headers = shown["details"]["headers"].as_array().unwrap();
            assert!(
                headers.contains(&json!([FastPix.header(), signature])),
                "it explains the rest: {shown:#}"
            );
            assert!(
                !shown.to_string().contains(&FastPix.signature(body)),
                "what would have been right: {shown:#}"
            );
        }
        let missing = show(bridge, &all[1])["details"]["findings"].to_string();
        assert!(missing.contains("`stripe`"), "{missing}");
    };
    explained(&bridge);
    let id = all[2]["id"].to_string();
    let text = bridge.command(&["rejected", "show", &id]);
    assert!(text.contains("user-agent: it/1\n") && text.contains("\n{}"), "{text}");
    let text = bridge.command(&["rejected", "show", &id, "--body", "body"]);
    assert!(text.contains("(the body of 2 bytes is in the file)"), "{text}");
    assert_eq!(fs::read(bridge.path("body")).unwrap(), b"{}");
    bridge.stop().await;
    assert_eq!(list(&bridge, &[]), all);
    explained(&bridge);
}

#[tokio::test]
async fn what_redact_names_is_written_to_a_file_and_shown_nowhere() {
    const MASKED: &str = r#"[sources.masked]
provider = "fastpix"
secrets = [{ file = "fastpix.secret" }]
redact = ["/data/streamKey"]
"#;
    let bridge = Bridge::start(Setup { more: MASKED, ..Setup::default() }).await;
    let body = br#"{"id":"e1","data":{"streamKey":"hunter2"}}"#;
    let forged = FastPix.signature_under(&FastPix.wrong_secret(), body);
    let request = post("/hooks/masked", &[(FastPix.header(), &forged)], body);
    assert_eq!(bridge.connect().await.ask(&request).await.problem(401), "signature_mismatch");
    let id = kept(&bridge, 1).await[0]["id"].to_string();
    for arguments in [&["rejected", "show", &id][..], &["rejected", "show", &id, "--json"]] {
        let shown = bridge.command(arguments);
        assert!(!shown.contains("hunter2") && !shown.contains(&STANDARD.encode(body)), "{shown}");
    }
    let text = bridge.command(&["rejected", "show", &id]);
    assert!(text.contains(r#"{"id":"e1","data":{"streamKey":"***"}}"#), "{text}");
    assert!(!bridge.command(&["rejected", "show", &id, "--json", "--body", "body"]).contains("hunter2"));
    assert_eq!(fs::read(bridge.path("body")).unwrap(), body);
}

#[tokio::test]
async fn no_credential_is_kept_or_shown() {
    let mut bridge = Bridge::start(Setup { more: RECORD, ..Setup::default() }).await;
    // What is configured, and what others send: to the right source and to wrong ones, in the right header and in others.
    let configured = String::from_utf8(Fastgen.secret().expose().to_vec()).unwrap();
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJob29rYnVzIn0.c2lnbmF0dXJl";
    let secrets = [configured.as_str(), jwt, "glpat-of-somebody-else"];
    let body = br#"{"object_kind":"push","n":12345678901234567890}"#;
    let mut client = bridge.connect().await;
    let mut count = 0;
    for path in ["/hooks/gitlab", "/hooks/own", "/hooks/fastpix", "/hooks/fastgen"] {
        for secret in secrets {
            let path = format!("{path}?private_token={secret}");
            let bearer = format!("Bearer {secret}");
            let headers = [
                ("authorization", bearer.as_str()),
                ("proxy-authorization", &bearer),
                ("cookie", &bearer),
                ("x-gitlab-tokn", secret),
                ("private-token", secret),
                ("x-api-key", secret),
                // Twice: then even the right one is refused.
                ("x-gitlab-token", secret),
                ("x-gitlab-token", secret),
            ];
            let response = client.ask(&post(&path, &headers, body)).await;
            response.problem(401);
            if response.is_last() {
                client = bridge.connect().await;
            }
            count += 1;
        }
    }
    let gitlab = [("x-gitlab-token", "glpat-of-somebody-else"), ("x-gitlab-event", "Push Hook")];
    assert_eq!(client.ask(&post("/hooks/gitlab", &gitlab, body)).await.problem(401), "signature_mismatch");
    let all = kept(&bridge, count + 1).await;
    let mut said = bridge.command(&["rejected", "list"]);
    for line in &all {
        said += &show(&bridge, line).to_string();
        said += &bridge.command(&["rejected", "show", &line["id"].to_string()]);
    }
    assert!(said.contains("Push Hook") && said.contains("tokens are not kept"), "{said}");
    assert!(said.contains("(a body of 47 bytes was not kept)"), "as the source `own` has it");
    let folder = bridge.path("hookbus-data/rejected");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut bytes = bridge.log().into_bytes();
    for file in files(&folder) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        bytes.extend(fs::read(file).unwrap());
    }
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&bytes, "object_kind") && holds(&bytes, "x-gitlab-tokn"));
    for secret in secrets {
        assert!(!holds(&bytes, secret) && !said.contains(secret), "{secret}");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn damaged_files_stop_no_start_and_what_was_kept_outlives_a_crash() {
    let config = Setup { more: RECORD, ..Setup::default() };
    let mut bridge = Bridge::start(config).await;
    let forged = |number: usize| {
        let body = format!(r#"{{"id":"e{number}"}}"#).into_bytes();
        let signature = FastPix.signature_under(&FastPix.wrong_secret(), &body);
        post(&FastPix.path(), &[(FastPix.header(), &signature)], &body)
    };
    let mut client = bridge.connect().await;
    for number in 0..3 {
        client.ask(&forged(number)).await.problem(401);
    }
    kept(&bridge, 3).await;
    bridge.kill().await;
    assert_eq!(list(&bridge, &[]).len(), 3);
    let folder = bridge.path("hookbus-data/rejected");
    let [file] = &files(&folder)[..] else { panic!("one file so far") };
    // The last one is torn, and there is rubbish beside it.
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .unwrap()
        .set_len(fs::metadata(file).unwrap().len() - 1)
        .unwrap();
    for name in
        ["fastpix.00000009.018000000000.rejected", "gone.00000002.019000000000.rejected", "x.rejected", "y"]
    {
        fs::File::create(folder.join(name)).unwrap().write_all(&[0xff; 999]).unwrap();
    }
    assert_eq!(list(&bridge, &[]).len(), 2);
    bridge.start_again();
    bridge.listens().await;
    let mut client = bridge.connect().await;
    client.ask(&forged(3)).await.problem(401);
    let newest = kept(&bridge, 3).await;
    assert_eq!(newest.iter().filter(|line| line["source"] == "fastpix").count(), 3);
    assert!(!folder.join("gone.00000002.019000000000.rejected").exists(), "nobody is called so");
    assert!(folder.join("y").exists());
    bridge.stop().await;
}

#[tokio::test]
async fn a_source_whose_requests_are_all_refused_raises_an_alarm_until_one_verifies() {
    let more = "[rejected]\nalarm-after = \"100ms\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let mut bridge = Bridge::start(Setup { more, ..Setup::default() }).await;
    let admin = bridge.admin_address().await;
    let state = async |source: usize| {
        let mut client = Client::connect(admin).await.unwrap();
        let ready = client.ask(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(ready.status, 200, "it does not make the bridge unready");
        ready.json()["sources"][source]["state"].clone()
    };
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&FastPix.request(br#"{"id":"1"}"#)).await.taken(), "accepted");
    // Every request counts, and so does the time: they go on until the alarm is there.
    for (provider, word, at) in [(FastPix, "all-refused", 0), (Fastgen, "never-verified", 1)] {
        let body = br#"{"id":"forged"}"#;
        let signature = provider.signature_under(&provider.wrong_secret(), body);
        let forged = post(&provider.path(), &[(provider.header(), &signature)], body);
        while bridge.times_logged(word) == 0 {
            client.ask(&forged).await.problem(401);
        }
        let begun = bridge.logged(word).await;
        assert_eq!(begun["fields"]["source"], provider.name());
        assert_eq!(state(at).await, word);
        let page = bridge.admin("/metrics").await;
        let figures = Figures::parse(std::str::from_utf8(&page.body).unwrap());
        let labels = [("source", provider.name()), ("alarm", word)];
        assert_eq!(figures.get("hookbus_source_alarm", &labels), 1.0);
    }
    assert_eq!(client.ask(&FastPix.request(br#"{"id":"2"}"#)).await.taken(), "accepted");
    let ended = bridge.logged("requests of this source verify again").await;
    assert_eq!(ended["fields"]["source"], "fastpix");
    assert_eq!((state(0).await, state(1).await), ("ready".into(), "never-verified".into()));
    bridge.stop().await;
}
