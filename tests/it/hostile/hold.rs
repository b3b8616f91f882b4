//! A process that holds connections, so that they take no file of the test's.

use std::{
    env,
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::Semaphore,
    task::JoinSet,
};

use super::{Over, Target, raise_open_files};
use crate::support::{Certificate, Client, Http2, Provider, Trust, text_of};

use Provider::FastPix;

/// The process.
pub(super) struct Holder(Child);

impl Holder {
    /// Starts this very test binary again, as a holder of connections.
    pub(super) fn start(target: &Target, count: u64) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "hostile::hold::connections_for_another_process", "--nocapture"]);
        command
            .env("HOOKBUS_TEST_HOLD", format!("{} {count} {}", target.bridge.address(), target.over as u8));
        command.env("HOOKBUS_TEST_HOLD_CERT", target.bridge.path("tls/cert.pem"));
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until it has said how many it holds.
    pub(super) async fn held(&mut self) -> u64 {
        let stdout = tokio::process::ChildStdout::from_std(self.0.stdout.take().unwrap()).unwrap();
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(count) = line.split("held=").nth(1) {
                return count.trim().parse().unwrap();
            }
        }
        panic!("it holds nothing");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// No test: what [`Holder`] runs. Without its variable there is nothing to do.
#[tokio::test]
async fn connections_for_another_process() {
    let Some(text) = text_of("HOOKBUS_TEST_HOLD") else { return };
    raise_open_files();
    let mut words = text.split(' ');
    let address = words.next().unwrap().parse().unwrap();
    let count: u64 = words.next().unwrap().parse().unwrap();
    let over: u8 = words.next().unwrap().parse().unwrap();
    let (tls, http2) =
        (over == Over::Http1Tls as u8 || over == Over::Http2Tls as u8, over >= Over::Http2 as u8);
    let trust = tls.then(|| {
        let certificate = Certificate::read(env::var_os("HOOKBUS_TEST_HOLD_CERT").unwrap());
        if http2 { Trust::http2(&certificate) } else { Trust::http1(&certificate) }
    });
    let (at_once, mut clients) = (Arc::new(Semaphore::new(64)), JoinSet::new());
    for number in 0..count {
        let (at_once, trust) = (Arc::clone(&at_once), trust.clone());
        clients.spawn(async move {
            let _permit = at_once.acquire().await.unwrap();
            let body = format!(r#"{{"id":"held-{number}"}}"#);
            if http2 {
                let client = match &trust {
                    Some(trust) => Http2::connect_tls(address, trust).await.unwrap(),
                    None => Http2::connect(address).await.unwrap(),
                };
                assert_eq!(client.event(FastPix, body.as_bytes()).await.unwrap().taken(), "accepted");
                (Some(client), None)
            } else {
                let mut client = match &trust {
                    Some(trust) => Client::connect_tls(address, trust).await.unwrap(),
                    None => Client::connect(address).await.unwrap(),
                };
                assert_eq!(client.ask(&FastPix.request(body.as_bytes())).await.taken(), "accepted");
                (None, Some(client))
            }
        });
    }
    let held = clients.join_all().await;
    #[expect(clippy::print_stdout, reason = "this is what the other process waits for")]
    {
        println!("held={}", held.len());
    }
    // Until it is ended, or whoever started it has.
    let _ = std::io::stdin().read(&mut [0]);
    drop(held);
}
