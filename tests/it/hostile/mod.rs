//! Hostile inputs, each with its answer and what it costs: `cargo xtask torture hostile` shows the table.

mod crowds;
mod frames;
mod heads;
mod hold;

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{
    Bridge, Certificate, Client, Cost, Frames, Provider, Response, Setup, Trust, alone, say,
};

/// What carries the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
}

impl Over {
    const HTTP1: [Self; 2] = [Self::Http1, Self::Http1Tls];
    const HTTP2: [Self; 2] = [Self::Http2, Self::Http2Tls];

    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http1Tls => "HTTP/1.1, TLS",
            Self::Http2 => "HTTP/2",
            Self::Http2Tls => "HTTP/2, TLS",
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }
}

/// A bridge that is about to be treated badly.
struct Target {
    bridge: Bridge,
    certificate: Certificate,
    over: Over,
}

/// Deadlines short enough to wait for.
const IMPATIENT: &str =
    "handshake = \"1s\", first-byte = \"1s\", headers = \"1s\", body = \"2s\", idle = \"2s\"";

impl Target {
    async fn new(over: Over, setup: Setup) -> Self {
        let certificate = Certificate::new();
        let bridge = match over.is_tls() {
            true => Bridge::start_tls(setup, &certificate).await,
            false => Bridge::start(setup).await,
        };
        let target = Self { bridge, certificate, over };
        // What is made once is made now.
        for number in 0..20 {
            target.genuine(&format!("warm-{number}")).await;
        }
        target
    }

    /// A connection for bytes of HTTP/1.1.
    async fn connect(&self) -> Client {
        match self.over.is_tls() {
            true => {
                Client::connect_tls(self.bridge.address(), &Trust::http1(&self.certificate)).await.unwrap()
            }
            false => self.bridge.connect().await,
        }
    }

    /// A connection for frames of HTTP/2.
    async fn frames(&self, settings: &[u8]) -> Frames {
        let trust = Trust::http2(&self.certificate);
        match self.over.is_tls() {
            true => Frames::connect_tls(self.bridge.address(), &trust, settings).await,
            false => Frames::connect(self.bridge.address(), settings).await,
        }
        .unwrap()
    }

    /// A genuine event, over a connection of its own.
    async fn genuine(&self, id: &str) {
        let request = Provider::FastPix.request(format!(r#"{{"id":"{id}"}}"#).as_bytes());
        assert_eq!(self.connect().await.ask(&request).await.taken(), "accepted");
    }
}

/// Does something to a bridge, checks what it came to, and shows the line of the table.
async fn case(
    over: Over,
    name: &str,
    expected: &[&str],
    setup: Setup,
    attack: impl AsyncFn(&Target) -> String,
) {
    let _alone = alone().await;
    let target = Target::new(over, setup).await;
    let cost = Cost::begin(&target.bridge);
    let answer = attack(&target).await;
    let (cpu, before, peak) = cost.end(&target.bridge);
    target.genuine("after").await;
    let (before, peak) = (before as f64 / 1024.0, peak as f64 / 1024.0);
    say(&format!("| {name} | {} | {answer} | {cpu} ms | {before:.1} MiB | {peak:.1} MiB |", over.name()));
    assert!(expected.contains(&answer.as_str()), "{name} over {}: {answer}, not {expected:?}", over.name());
}

/// What a client was told, in short.
fn told(response: &io::Result<Response>) -> String {
    match response {
        Ok(response) if response.status == 200 => format!("200 {}", response.taken()),
        Ok(response) => format!("{} {}", response.status, response.problem(response.status)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => "no answer".to_owned(),
        Err(_) => "ended".to_owned(),
    }
}

/// Lets this process and those it starts open as many files as they may.
fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
