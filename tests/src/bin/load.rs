//! Drives a server with signed FastPix events and prints what it measured as JSON.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use hookbus_core::Secret;
use hookbus_tests::load::{self, Events, Settings, Shape};

/// Drives a server with signed FastPix events; prints requests per second, latencies and statuses as JSON.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address of the server.
    target: SocketAddr,
    /// File with the signing secret, as the provider displays it.
    #[arg(long)]
    secret_file: PathBuf,
    /// Path to post to.
    #[arg(long, default_value = "/hooks/fastpix")]
    path: String,
    /// Connections, all kept alive.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Threads that share the connections.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How long to run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// End earlier, after so many requests.
    #[arg(long)]
    count: Option<u64>,
    /// Distinct events to prepare; more requests than that send them again.
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Number of the first of them, so that another run sends others.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Offer so many requests a second; without it each connection sends when its last answer is in.
    #[arg(long)]
    rate: Option<f64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let file = &arguments.secret_file;
    let secret = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let secret = Secret::from_file_text(secret);
    let host = arguments.target.to_string();
    let shape = Shape { host: &host, path: &arguments.path, secret: &secret };
    let events =
        Arc::new(Events::range(arguments.first..arguments.first.saturating_add(arguments.events), shape)?);
    let settings = Settings {
        target: arguments.target,
        connections: arguments.connections,
        threads: arguments.threads,
        duration: Duration::try_from_secs_f64(arguments.seconds)
            .map_err(|error| format!("--seconds {}: {error}", arguments.seconds))?,
        count: arguments.count,
        per_second: arguments.rate,
    };
    let report = load::run(&settings, &events)?;
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &report)
        .map_err(|error| format!("cannot write the report: {error}"))?;
    writeln!(out).map_err(|error| format!("cannot write the report: {error}"))
}
