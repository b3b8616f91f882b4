//! `hookbus serve`.

use std::{process::ExitCode, time::Duration};

use hookbus_core::SinkRegistry;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{CUT, Global, IN_USE, INTERRUPTED, JOURNAL_FAILED, Outcome, note, runtime};
use crate::{
    Bridge, StartError,
    config::{Config, ConfigText},
};

pub(super) fn run(global: &Global, registry: &SinkRegistry) -> Outcome {
    let (config, warnings) = Config::parse(&ConfigText::read(&global.config)?, registry)?;
    if !warnings.is_empty() {
        note(&warnings);
    }
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(config));
    // What still runs then has had its time; a blocked write must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn serve(config: Config) -> Outcome {
    let mut signals = Signals {
        term: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let awaiting: Vec<_> = config
        .sources
        .iter()
        .filter(|source| source.secrets.is_empty())
        .map(|source| source.name.to_string())
        .collect();
    let (sources, sinks) = (config.sources.len(), config.sinks.len());
    let bridge = tokio::select! {
        bridge = Bridge::start(config) => match bridge {
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
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = bridge.serve(async {
        let _ = stopped.await;
    });
    tokio::pin!(serving);
    let summary = tokio::select! {
        summary = &mut serving => summary,
        name = signals.next() => {
            tracing::info!(signal = name, "stopping: requests in progress are answered, a second signal ends at once");
            let _ = stop.send(());
            tokio::select! {
                summary = &mut serving => summary,
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
    hangup: Signal,
}

impl Signals {
    /// The next signal to stop.
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.term.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                // Left alone it would end the process without answering anybody.
                _ = self.hangup.recv() => tracing::warn!("SIGHUP: this version does not reload; restart it to apply a new configuration"),
            }
        }
    }
}
