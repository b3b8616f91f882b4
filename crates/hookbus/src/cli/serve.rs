//! `hookbus serve`.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Args;
use hookbus_core::{SinkRegistry, units};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    CUT, Global, IN_USE, INTERRUPTED, JOURNAL_FAILED, Outcome, note, reloader::Reloader, runtime,
    service::Service, sockets,
};
use crate::{
    Bridge, Start, StartError,
    config::{Config, ConfigText},
    watch::Watch,
};

#[derive(Args)]
pub(super) struct Serve {
    /// How long to wait for another process to let go of the data folder and of addresses, such as `30s`
    #[arg(long, value_name = "TIME")]
    take_over_within: Option<units::Duration>,
}

impl Serve {
    pub(super) fn run(&self, global: &Global, registry: &SinkRegistry) -> Outcome {
        // Before there is any thread.
        let start = sockets::passed()?;
        let start = match &self.take_over_within {
            Some(within) => start.wait(within.get()),
            None => start,
        };
        // As it is now: what changes while the bridge starts is seen afterwards.
        let mut watch = Watch::default();
        watch.follow([global.config.clone()]);
        let (config, warnings) = Config::parse(&ConfigText::read(&global.config)?, registry)?;
        if !warnings.is_empty() {
            note(&warnings);
        }
        watch.follow(config.files().chain([global.config.clone()]));
        let runtime = runtime()?;
        let outcome = runtime.block_on(serve(config, start, watch, &global.config, registry));
        // What still runs then has had its time; a blocked write must not hold the process.
        runtime.shutdown_timeout(Duration::from_millis(100));
        outcome
    }
}

async fn serve(config: Config, start: Start, watch: Watch, path: &Path, registry: &SinkRegistry) -> Outcome {
    let service = &Service::from_environment();
    let mut signals =
        Signals { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    // Left alone it would end the process without answering anybody.
    let hangup = signal(SignalKind::hangup())?;
    let awaiting: Vec<_> = config
        .sources
        .iter()
        .filter(|source| source.secrets.is_empty())
        .map(|source| source.name.to_string())
        .collect();
    let (sources, sinks) = (config.sources.len(), config.sinks.len());
    let bridge = tokio::select! {
        bridge = Bridge::start_with(config, start) => match bridge {
            Err(error @ StartError::InUse(_)) => {
                note(format_args!("error: {error}"));
                return Ok(ExitCode::from(IN_USE));
            }
            bridge => bridge?,
        },
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before it listened");
            return Ok(ExitCode::SUCCESS);
        }
    };
    tracing::info!(address = %bridge.address(), sources, sinks, "listening");
    for source in awaiting {
        tracing::warn!(source, "awaiting-secret: the provider's test of the URL is answered, events get 503");
    }
    let reloader =
        Reloader { path: path.to_owned(), registry, reload: bridge.reload(), service, hangup, watch };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = bridge.serve(async {
        let _ = stopped.await;
    });
    tokio::pin!(serving);
    service.ready("serving");
    let alive = service.keep_alive();
    tokio::pin!(alive);
    let summary = tokio::select! {
        summary = &mut serving => summary,
        never = reloader.run() => match never {},
        never = &mut alive => match never {},
        name = signals.next() => {
            tracing::info!(signal = name, "stopping: requests in progress are answered, a second signal ends at once");
            service.stopping();
            let _ = stop.send(());
            tokio::select! {
                summary = &mut serving => summary,
                never = &mut alive => match never {},
                name = signals.next() => {
                    tracing::warn!(signal = name, "stopped at once; requests in progress were cut");
                    return Ok(ExitCode::from(INTERRUPTED));
                }
            }
        }
    };
    if summary.journal_failed {
        note(
            "error: an fsync of the journal failed; what was answered 200 is safe, look at the disk before a restart",
        );
        return Ok(ExitCode::from(JOURNAL_FAILED));
    }
    if summary.connections_cut > 0 {
        tracing::warn!(
            connections_cut = summary.connections_cut,
            "stopped; some connections took longer than the grace period"
        );
        return Ok(ExitCode::from(CUT));
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    /// The next signal to stop.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
