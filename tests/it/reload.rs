//! Another configuration and other secrets for a bridge that runs: nothing is lost, nothing is cut, and what is wrong is
//! refused and said.

mod load;

use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Bridge, Client, Provider, Written, post, until};

use Provider::{FastPix, Fastgen};

/// A bridge that answers by its journal and writes each source into a file of its own.
struct Config<'t> {
    listen: &'t str,
    /// More keys of `[server]`.
    server: &'t str,
    sources: &'t str,
    folder: &'t str,
    /// More keys of the sink.
    sink: &'t str,
    more: &'t str,
}

const FASTPIX: &str =
    "[sources.fastpix]\nprovider = \"fastpix\"\nsecrets = [{ file = \"fastpix.secret\" }]\n";
const FASTGEN: &str =
    "[sources.fastgen]\nprovider = \"fastgen\"\nsecrets = [{ file = \"fastgen.secret\" }]\n";

impl Default for Config<'_> {
    fn default() -> Self {
        Self { listen: "127.0.0.1:0", server: "", sources: FASTPIX, folder: "events", sink: "", more: "" }
    }
}

impl Config<'_> {
    fn text(&self) -> String {
        let Self { listen, server, sources, folder, sink, more } = self;
        format!(
            r#"[server]
listen = "{listen}"
limits = {{ connections-per-address = 1024 }}
{server}
[admin]
listen = "127.0.0.1:0"
{sources}
[sinks.lines]
type = "file"
dir = "{folder}"
{sink}
[[routes]]
name = "all"
to = [{{ sink = "lines", path = "{{source}}.ndjson" }}]
{more}"#
        )
    }

    async fn start(&self) -> Bridge {
        Bridge::start_with(&self.text()).await
    }
}

fn body(id: u64) -> Vec<u8> {
    format!(r#"{{"id":"e{id}","type":"video.media.ready","object":{{"id":"m"}}}}"#).into_bytes()
}

/// A disk that hangs hangs whoever reads the configuration, and nobody else.
#[tokio::test]
async fn a_configuration_that_cannot_be_read_to_its_end_holds_nobody_up() {
    let timeouts = "timeouts = { first-byte = \"1s\" }";
    let mut bridge = Config { server: timeouts, ..Config::default() }.start().await;
    let file = bridge.path("hookbus.toml");
    fs::remove_file(&file).unwrap();
    // Whoever opens it waits for somebody to write.
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    bridge.signal(Signal::HUP);
    bridge.logged("SIGHUP: the configuration is read again").await;
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&FastPix.request(&body(1))).await.taken(), "accepted");
    bridge.connect().await.ended().await;
    bridge.stop().await;
}

/// Where nothing had to be on disk there was no record of what is refused; from a reload on there is.
#[tokio::test]
async fn a_record_of_rejected_requests_begins_with_a_reload() {
    let sources = FASTPIX.to_owned() + "ack = \"sinks\"\nack-timeout = \"30s\"\n";
    let config = |more| Config { sources: &sources, more, ..Config::default() };
    let mut bridge = config("").start().await;
    bridge.reloads(&config("[rejected]\n").text(), 1).await;
    let forged = FastPix.signature_under(&FastPix.wrong_secret(), b"{}");
    let request = post("/hooks/fastpix", &[(FastPix.header(), &forged)], b"{}");
    assert_eq!(bridge.connect().await.ask(&request).await.problem(401), "signature_mismatch");
    until("it is kept", || bridge.command(&["rejected", "list"]).contains("signature_mismatch")).await;
    bridge.stop().await;
}

async fn lines_are(bridge: &Bridge, file: &str, count: usize) -> Vec<Written> {
    let path = bridge.path(file);
    until("all lines are there", || whole(&path).is_some_and(|lines| lines.len() >= count)).await;
    whole(&path).unwrap()
}

/// The lines of a file that nobody is writing to.
fn whole(path: &std::path::Path) -> Option<Vec<Written>> {
    fs::read(path).is_ok_and(|text| text.ends_with(b"\n")).then(|| Written::read(path))
}

/// Waits until there are so many lines in these files together.
async fn arrived(files: &[PathBuf], lines: u64) {
    let count =
        |file: &PathBuf| fs::read(file).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count());
    until("everything has arrived", || files.iter().map(count).sum::<usize>() as u64 >= lines).await;
}

async fn shown(bridge: &mut Bridge) -> Value {
    let response = bridge.admin("/readyz").await;
    assert_eq!(response.status, 200, "the one before is served, so it is ready");
    serde_json::from_slice(&response.body).unwrap()
}

#[tokio::test]
async fn what_is_added_is_there_and_an_open_connection_stays() {
    let mut bridge = Config::default().start().await;
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&FastPix.request(&body(1))).await.taken(), "accepted");
    assert_eq!(client.ask(&Fastgen.request(b"{\"webhook_message_id\":\"a\"}")).await.status, 404);
    let sources = format!("{FASTPIX}{FASTGEN}");
    let more = "[[routes]]\nname = \"copy\"\nto = [{ sink = \"lines\", path = \"copy.ndjson\" }]";
    let added = Config { sources: &sources, more, ..Config::default() };
    let said = bridge.reloads(&added.text(), 1).await;
    assert_eq!(said, "configuration reloaded: added: route copy, source fastgen");
    assert_eq!(client.ask(&Fastgen.request(b"{\"webhook_message_id\":\"a\"}")).await.taken(), "accepted");
    assert_eq!(lines_are(&bridge, "events/copy.ndjson", 1).await.len(), 1);
    let figures = String::from_utf8(bridge.admin("/metrics").await.body).unwrap();
    for line in [
        "hookbus_config_reloads_total{result=\"applied\"} 1",
        "hookbus_config_last_reload_successful 1",
        "hookbus_requests_total{source=\"fastpix\",answer=\"accepted\"} 1",
        "hookbus_requests_total{source=\"fastgen\",answer=\"accepted\"} 1",
    ] {
        assert!(figures.contains(line), "{line}\n{figures}");
    }
    let said = bridge.reloads(&Config::default().text(), 2).await;
    assert_eq!(said, "configuration reloaded: removed: route copy, source fastgen");
    assert_eq!(client.ask(&Fastgen.request(b"{}")).await.status, 404);
    bridge.stop().await;
}

#[tokio::test]
async fn a_secret_is_rotated_by_its_file_alone() {
    let mut bridge = Config::default().start().await;
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&FastPix.request(&body(1))).await.taken(), "accepted");
    bridge.replace("fastpix.secret", FastPix.wrong_secret().expose());
    bridge.logged("configuration reloaded: new secrets: fastpix").await;
    assert_eq!(client.ask(&FastPix.request(&body(2))).await.status, 401);
    let signature = FastPix.signature_under(&FastPix.wrong_secret(), &body(2));
    let rotated = post("/hooks/fastpix", &[(FastPix.header(), &signature)], &body(2));
    assert_eq!(client.ask(&rotated).await.taken(), "accepted");
    // An empty one would let anybody sign: the one before stays.
    bridge.replace("fastpix.secret", b"\n");
    bridge.logged("not all of it could be had").await;
    assert_eq!(client.ask(&rotated).await.taken(), "duplicate");
    let why = shown(&mut bridge).await["configuration"]["refused"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("fastpix.secret") && why.contains("is empty"), "{why}");
    bridge.replace("fastpix.secret", FastPix.secret().expose());
    bridge.logged_times("configuration reloaded: new secrets: fastpix", 3).await;
    assert_eq!(client.ask(&FastPix.request(&body(3))).await.taken(), "accepted");
    assert_eq!(shown(&mut bridge).await["configuration"]["refused"], Value::Null);
    bridge.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_where_it_stands_and_the_one_before_serves() {
    let mut bridge = Config::default().start().await;
    let mut client = bridge.connect().await;
    let wrong = Config { server: "lisen = 1", sources: FASTGEN, ..Config::default() };
    let said = bridge.reloads(&wrong.text(), 1).await;
    for part in
        ["configuration refused, the one before stays in force", "hookbus.toml:4:1", "^^^^^", "listen"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(client.ask(&FastPix.request(&body(1))).await.taken(), "accepted");
    let why = shown(&mut bridge).await["configuration"]["refused"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("hookbus.toml:4: ") && why.contains("lisen"), "{why}");
    let figures = String::from_utf8(bridge.admin("/metrics").await.body).unwrap();
    assert!(figures.contains("hookbus_config_last_reload_successful 0"), "{figures}");
    assert!(figures.contains("hookbus_config_reloads_total{result=\"refused\"} 1"), "{figures}");
    let journal = "[journal]\ndir = \"elsewhere\"";
    let said = bridge.reloads(&Config { more: journal, ..Config::default() }.text(), 2).await;
    assert!(said.contains("cannot change `[journal] dir`"), "{said}");
    let said = bridge.reloads("\n", 3).await;
    assert!(said.contains("is empty"), "{said}");
    assert_eq!(client.ask(&FastPix.request(&body(2))).await.taken(), "accepted");
    let said = bridge.reloads(&Config::default().text(), 4).await;
    assert_eq!(said, "configuration reloaded: nothing changed");
    assert_eq!(shown(&mut bridge).await["configuration"]["refused"], Value::Null);
    bridge.stop().await;
}

#[tokio::test]
async fn a_sink_that_changes_goes_on_where_the_one_before_stopped() {
    const EVENTS: u64 = 200;
    let mut bridge = Config::default().start().await;
    let address = bridge.address();
    let sending = tokio::spawn(async move {
        let mut client = Client::connect(address).await.unwrap();
        for id in 0..EVENTS {
            assert_eq!(client.ask(&FastPix.request(&body(id))).await.taken(), "accepted");
        }
    });
    for (times, folder) in [(1, "other"), (2, "third"), (3, "events")] {
        let said = bridge.reloads(&Config { folder, ..Config::default() }.text(), times).await;
        assert_eq!(said, "configuration reloaded: changed: sink lines");
    }
    sending.await.unwrap();
    let files = ["events", "other", "third"].map(|folder| bridge.path(&format!("{folder}/fastpix.ndjson")));
    arrived(&files, EVENTS).await;
    bridge.stop().await;
    let mut lines = Vec::new();
    for file in &files {
        lines.push(Written::read(file));
    }
    // The first folder was left and came back.
    let numbers = lines.iter().map(|lines| {
        let numbers = lines.iter().map(|line| line.id.trim_start_matches('e').parse::<u64>().unwrap());
        numbers.collect::<Vec<_>>()
    });
    let numbers: Vec<_> = numbers.collect();
    for folder in &numbers {
        assert!(folder.is_sorted(), "{numbers:?}");
    }
    let mut all = numbers.concat();
    all.sort_unstable();
    assert_eq!(all, (0..EVENTS).collect::<Vec<_>>(), "each once");
}

#[tokio::test]
async fn a_sink_that_is_taken_out_must_have_everything() {
    let gone = "[sinks.gone]\ntype = \"redis\"\nurl = \"redis://127.0.0.1:1\"\n[[routes]]\nname = \"gone\"\n\
                to = [{ sink = \"gone\", stream = \"s\" }]";
    let with = Config { more: gone, ..Config::default() };
    let mut bridge = with.start().await;
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&FastPix.request(&body(1))).await.taken(), "accepted");
    bridge.logged("sink is down").await;
    let said = bridge.reloads(&Config::default().text(), 1).await;
    for part in
        ["sink `gone` is not ready and 1 events wait for it", "`hookbus sinks retire gone --dead-letter`"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(client.ask(&FastPix.request(&body(2))).await.taken(), "accepted");
    // One that has nothing to get goes at once.
    let more = format!("{gone}\n[sinks.free]\ntype = \"memory\"");
    let said = bridge.reloads(&Config { more: &more, ..Config::default() }.text(), 2).await;
    assert_eq!(said, "configuration reloaded: added: sink free");
    let said = bridge.reloads(&with.text(), 3).await;
    assert_eq!(said, "configuration reloaded: removed: sink free");
    bridge.logged("the sink that was taken out has everything").await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_link_that_is_swapped_is_a_change() {
    let mut bridge = Config::default().start().await;
    for (name, config) in
        [("one", Config::default()), ("two", Config { sources: FASTGEN, ..Config::default() })]
    {
        fs::create_dir(bridge.path(name)).unwrap();
        fs::write(bridge.path(name).join("hookbus.toml"), config.text()).unwrap();
    }
    // As a ConfigMap is laid out.
    symlink("one", bridge.path("..data")).unwrap();
    symlink("..data/hookbus.toml", bridge.path("link")).unwrap();
    fs::rename(bridge.path("link"), bridge.path("hookbus.toml")).unwrap();
    symlink("two", bridge.path("..new")).unwrap();
    fs::rename(bridge.path("..new"), bridge.path("..data")).unwrap();
    bridge.logged("configuration reloaded: added: source fastgen; removed: source fastpix").await;
    let mut client = bridge.connect().await;
    assert_eq!(client.ask(&Fastgen.request(b"{\"webhook_message_id\":\"a\"}")).await.taken(), "accepted");
    bridge.stop().await;
}

#[tokio::test]
async fn another_address_is_taken_before_the_one_before_is_left() {
    let mut bridge = Config::default().start().await;
    let before = bridge.address();
    let mut client = bridge.connect().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [busy, there]: [SocketAddr; 2] = [&taken, &free].map(|socket| socket.local_addr().unwrap());
    let at = |address: SocketAddr| Config::default().text().replacen("127.0.0.1:0", &address.to_string(), 1);
    let said = bridge.reloads(&at(busy), 1).await;
    assert!(said.contains(&format!("cannot listen at {busy}")), "{said}");
    drop(free);
    let said = bridge.reloads(&at(there), 2).await;
    assert_eq!(said, "configuration reloaded: changed: server.listen");
    assert_eq!(client.ask(&FastPix.request(&body(1))).await.taken(), "accepted");
    let mut other = Client::connect(there).await.unwrap();
    assert_eq!(other.ask(&FastPix.request(&body(2))).await.taken(), "accepted");
    assert!(Client::connect(before).await.is_err());
    bridge.signal(Signal::TERM);
    assert_eq!(bridge.exit_code().await, 0);
}
