//! A load generator for HTTP/1.1 that leaves the machine to what it measures.
//!
//! It shares its cores with the server, so every microsecond it takes is one the server does not get: requests are
//! bytes prepared beforehand, responses are scanned for status and length only, and connections are plain streams on
//! single-threaded runtimes. In a closed loop each connection sends when its last answer is in; with an offered rate
//! requests fall due by the clock and latency counts from then on, so that a stalled server cannot slow its own test.

mod client;
mod events;
mod histogram;
mod pace;
mod report;
mod response;

use std::{
    net::SocketAddr,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use tokio::runtime::Builder;

use self::{
    client::{Client, Tally},
    pace::Pace,
};
pub use self::{
    events::{Events, Shape},
    histogram::Histogram,
    report::Report,
};

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The server.
    pub target: SocketAddr,
    /// So many connections, all kept alive.
    pub connections: usize,
    /// So many threads share them.
    pub threads: usize,
    /// The run ends after this time.
    pub duration: Duration,
    /// It ends earlier once so many requests were sent.
    pub count: Option<u64>,
    /// So many requests a second fall due; without it each connection runs a closed loop.
    pub per_second: Option<f64>,
}

/// Drives a server with the events and says what came of it.
///
/// # Errors
/// Where the settings make no run, or the machine gives no runtime. What the server does wrong is in the report.
pub fn run(settings: &Settings, events: &Arc<Events>) -> Result<Report, String> {
    if settings.connections == 0 || settings.threads == 0 || events.count() == 0 {
        return Err("a run needs at least one connection, one thread and one event".into());
    }
    if settings.per_second.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err("the offered rate must be more than zero".into());
    }
    let threads = settings.threads.min(settings.connections);
    let pace = Arc::new(Pace::new(settings.duration, settings.count, settings.per_second));
    // Nobody starts before all are connected, the pacer included.
    let ready = Arc::new(Barrier::new(threads + 1));
    let workers = (0..threads).map(|worker| {
        let share = (worker..settings.connections).step_by(threads).count();
        let (target, pace) = (settings.target, Arc::clone(&pace));
        let (events, ready) = (Arc::clone(events), Arc::clone(&ready));
        thread::spawn(move || work(share, target, &pace, &events, &ready))
    });
    let workers = workers.collect::<Vec<_>>();
    ready.wait();
    pace.release();
    pace.close();
    let mut sum = Tally::default();
    for worker in workers {
        sum.merge(&worker.join().map_err(|_| "a thread of the load generator panicked")??);
    }
    Ok(Report::new(settings, threads, events, pace.unsent(), pace.start(), &sum))
}

/// Runs the connections of one thread.
fn work(
    share: usize,
    target: SocketAddr,
    pace: &Arc<Pace>,
    events: &Arc<Events>,
    ready: &Barrier,
) -> Result<Tally, String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // The others wait for this one.
            ready.wait();
            return Err(format!("cannot start a runtime: {error}"));
        }
    };
    runtime.block_on(async {
        let mut clients = Vec::with_capacity(share);
        for _ in 0..share {
            let mut client = Client::new(target, Arc::clone(pace), Arc::clone(events));
            client.connect().await;
            clients.push(client);
        }
        ready.wait();
        let running = clients.into_iter().map(|client| tokio::spawn(client.run())).collect::<Vec<_>>();
        let mut sum = Tally::default();
        for client in running {
            sum.merge(&client.await.map_err(|error| format!("a connection's task failed: {error}"))?);
        }
        Ok(sum)
    })
}
