//! A correct destination: topics in memory, one line of text for each event and one for its answer.
//!
//! `hello TOKEN` comes first. Then `ping` is answered `pong`, `? TOPIC` is answered `there` or `missing`, and
//! `TOPIC {event}` is answered `ok POSITION`, `missing` or `too large`, in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use hookbus_testkit::Observed;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The longest line of an event that is taken, without the topic.
pub(crate) const LONGEST: usize = 20_000;
pub(crate) const TOKEN: &str = "token-of-the-destination";

#[derive(Debug, Default)]
pub(crate) struct Topics {
    pub(crate) events: BTreeMap<String, Vec<Observed>>,
    pub(crate) missing: BTreeSet<String>,
}

/// The destination; what it took outlives its server.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) address: SocketAddr,
    topics: Arc<Mutex<Topics>>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Destination {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = Self { address, topics: Arc::default(), server: Mutex::default() };
        this.serve(listener);
        this
    }

    pub(crate) fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap()
    }

    pub(crate) async fn stop(&self) {
        let server = self.server.lock().unwrap().take().unwrap();
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn start_again(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    fn serve(&self, listener: TcpListener) {
        let topics = Arc::clone(&self.topics);
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let topics = Arc::clone(&topics);
                connections.spawn(async move {
                    let _ = answer(stream, &topics).await;
                });
            }
        });
        *self.server.lock().unwrap() = Some(server);
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
        }
    }
}

async fn answer(stream: TcpStream, topics: &Mutex<Topics>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    let mut is_known = false;
    loop {
        line.clear();
        stream.read_until(b'\n', &mut line).await?;
        // A line that is cut short was not sent.
        let Some(line) = line.strip_suffix(b"\n") else { return Ok(()) };
        let answer = match line {
            b"ping" if is_known => "pong".into(),
            _ if is_known => take(line, &mut topics.lock().unwrap()),
            _ => {
                is_known = line == format!("hello {TOKEN}").as_bytes();
                continue;
            }
        };
        stream.get_mut().write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

fn take(line: &[u8], topics: &mut Topics) -> String {
    let at = line.iter().position(|byte| *byte == b' ').unwrap();
    let (topic, event) = (String::from_utf8(line[..at].to_vec()).unwrap(), &line[at + 1..]);
    if topic == "?" {
        let topic = std::str::from_utf8(event).unwrap();
        return if topics.missing.contains(topic) { "missing" } else { "there" }.into();
    }
    if event.len() > LONGEST {
        return "too large".into();
    }
    if topics.missing.contains(&topic) {
        return "missing".into();
    }
    let topic = topics.events.entry(topic).or_default();
    topic.push(Observed::from_structured(event).unwrap());
    format!("ok {}", topic.len())
}
