//! Reloads under load: every request is answered 200, every event arrives, and each subject is in order.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hookbus_core::Secret;
use rustix::process::Signal;
use tokio::{sync::RwLock, task::JoinSet};

use super::{Config, FASTGEN, FASTPIX};
use crate::support::{Bridge, Client, Provider, Written, alone, number_of, post, say, until};

use Provider::FastPix;

/// Clients, each with a subject of its own; every other one opens a connection for each request.
const CLIENTS: usize = 12;
/// Requests answered between two reloads, at least.
const BETWEEN: u64 = 20;

/// What the clients did.
#[derive(Default)]
struct Sent {
    over: AtomicBool,
    answered: AtomicU64,
    /// How many events of each subject were accepted.
    subjects: Mutex<HashMap<usize, u64>>,
    /// By which secret clients sign.
    signing: RwLock<u64>,
}

/// The secret with this number; the first one is the usual one.
fn secret(number: u64) -> Secret {
    match number {
        0 => FastPix.secret(),
        _ => Secret::new(STANDARD.encode(format!("secret number {number} of a test"))),
    }
}

fn file(number: u64) -> String {
    if number == 0 { "fastpix.secret".to_owned() } else { format!("secret-{number}") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_request_fails_and_every_event_arrives_in_order() {
    let _alone = alone().await;
    let reloads = number_of("HOOKBUS_TEST_RELOADS", 10);
    let mut bridge = Config { sources: FASTPIX, ..Config::default() }.start().await;
    let sent = Arc::new(Sent::default());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(drive(Arc::clone(&sent), bridge.address(), client));
    }
    let begun = Instant::now();
    for reload in 0..reloads {
        // Some requests are answered by each of them.
        until("requests are answered", || sent.answered.load(Ordering::SeqCst) >= reload * BETWEEN).await;
        // Secrets, sources, routes, limits and the sink itself, in turn and all together.
        // A secret is put beside the one before, the clients change over, and the one before is taken out.
        let rotation = reload / 2;
        let secrets = match reload % 2 {
            0 => {
                bridge.replace(&file(rotation + 1), secret(rotation + 1).expose());
                format!("{{ file = \"{}\" }}, {{ file = \"{}\" }}", file(rotation), file(rotation + 1))
            }
            _ => format!("{{ file = \"{}\" }}", file(rotation + 1)),
        };
        let sources = format!("[sources.fastpix]\nprovider = \"fastpix\"\nsecrets = [{secrets}]\n");
        let more = if reload % 3 == 0 { FASTGEN } else { "" };
        let more = format!(
            "{more}\n[[routes]]\nname = \"copy-{reload}\"\ntypes = [\"it.copied\"]\nto = [{{ sink = \"lines\", path = \"copy.ndjson\" }}]"
        );
        let folder = if reload % 5 == 0 { "events" } else { "other" };
        let server = if reload % 7 == 0 { "timeouts = { idle = \"50s\" }" } else { "" };
        // The same folder once more, which the one before has to leave first.
        let sink = if reload % 4 == 0 { "publish-timeout = \"6s\"" } else { "" };
        let config = Config { sources: &sources, more: &more, folder, sink, server, ..Config::default() };
        let said = bridge.reloads(&config.text(), usize::try_from(reload).unwrap() + 1).await;
        assert!(said.starts_with("configuration reloaded: "), "{said}");
        if reload % 2 == 0 {
            // Once nobody waits for an answer to a request under the one before.
            *sent.signing.write().await = rotation + 1;
        }
        assert_eq!(bridge.times_logged("not all of it could be had"), 0, "{}", bridge.log());
    }
    let took = begun.elapsed();
    sent.over.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let answered = sent.answered.load(Ordering::SeqCst);
    // What is not delivered at the end stays in the journal.
    let files = ["events", "other"].map(|folder| bridge.path(&format!("{folder}/fastpix.ndjson")));
    super::arrived(&files, answered).await;
    bridge.signal(Signal::TERM);
    assert_eq!(bridge.exit_code().await, 0, "{}", bridge.log());
    let arrived = arrived(&bridge, &sent.subjects.lock().unwrap());
    say(&format!(
        "reload: {reloads} reloads in {:.1} s, with {} secrets one after the other, under {CLIENTS} clients: {answered} \
         requests, all answered 200; {arrived} events arrived, accepted minus arrived = {}, each subject in order",
        took.as_secs_f64(),
        reloads.div_ceil(2) + 1,
        answered - arrived
    ));
    assert_eq!(answered, arrived);
}

/// Counts what arrived, each event once, and looks at its order.
fn arrived(bridge: &Bridge, subjects: &HashMap<usize, u64>) -> u64 {
    let mut seen: HashMap<usize, Vec<u64>> = HashMap::new();
    for folder in ["events", "other"] {
        // A folder is left and comes back: within it each subject is in order.
        let mut last: HashMap<usize, u64> = HashMap::new();
        for line in Written::read(&bridge.path(&format!("{folder}/fastpix.ndjson"))) {
            let (subject, number) = line.id.split_once('-').unwrap();
            let (subject, number): (usize, u64) = (subject.parse().unwrap(), number.parse().unwrap());
            let before = last.insert(subject, number);
            assert!(before.is_none_or(|before| before < number), "{subject}: {number} behind {before:?}");
            seen.entry(subject).or_default().push(number);
        }
    }
    for (subject, accepted) in subjects {
        let mut numbers = seen.remove(subject).unwrap_or_default();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..*accepted).collect::<Vec<_>>(), "subject {subject}: each once");
    }
    assert!(seen.is_empty(), "nobody sent these: {:?}", seen.keys());
    subjects.values().sum()
}

/// Sends the events of one subject, one after the other, until it is over.
async fn drive(sent: Arc<Sent>, address: SocketAddr, subject: usize) {
    let mut client = Client::connect(address).await.unwrap();
    let mut number = 0;
    while !sent.over.load(Ordering::SeqCst) {
        let id = format!("{subject}-{number}");
        let body = format!(r#"{{"id":"{id}","type":"video.media.ready","object":{{"id":"m{subject}"}}}}"#)
            .into_bytes();
        let signing = sent.signing.read().await;
        let signature = FastPix.signature_under(&secret(*signing), &body);
        let request = post("/hooks/fastpix", &[(FastPix.header(), &signature)], &body);
        let answer = client.ask(&request).await;
        drop(signing);
        assert_eq!(answer.status, 200, "{id}: {answer:?}");
        assert_eq!(answer.taken(), "accepted");
        number += 1;
        sent.answered.fetch_add(1, Ordering::SeqCst);
        if subject.is_multiple_of(2) {
            client = Client::connect(address).await.unwrap();
        }
    }
    sent.subjects.lock().unwrap().insert(subject, number);
}
