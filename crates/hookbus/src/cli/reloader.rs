//! Reading the configuration again, when it is asked for by a signal or a file has changed.

use std::{convert::Infallible, path::PathBuf};

use hookbus_core::SinkRegistry;
use tokio::{signal::unix::Signal, task::spawn_blocking};

use super::service::Service;
use crate::{
    Reload,
    config::{Config, ConfigText},
    watch::Watch,
};

/// What it takes to read it again.
pub(super) struct Reloader<'r> {
    pub(super) path: PathBuf,
    pub(super) registry: &'r SinkRegistry,
    pub(super) reload: Reload,
    pub(super) service: &'r Service,
    pub(super) hangup: Signal,
    pub(super) watch: Watch,
}

impl Reloader<'_> {
    /// Reads it again whenever there is a reason. Never ends.
    pub(super) async fn run(mut self) -> Infallible {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => tracing::info!("SIGHUP: the configuration is read again"),
                files = self.watch.changed() => {
                    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                    tracing::info!(files = files.join(", "), "the configuration is read again: files have changed");
                }
            }
            self.service.reloading();
            // Before it is read: what changes from now on is a change.
            self.look(Watch::told).await;
            let status = self.again().await;
            self.service.ready(status);
        }
    }

    /// Looks at the files, where a disk that hangs hangs nobody: whoever serves and hears signals is in this task too.
    async fn look(&mut self, look: impl FnOnce(&mut Watch) + Send + 'static) {
        let mut watch = std::mem::take(&mut self.watch);
        let looked = spawn_blocking(move || {
            look(&mut watch);
            watch
        });
        self.watch = looked.await.unwrap_or_default();
    }

    async fn again(&mut self) -> &'static str {
        let path = self.path.clone();
        let read = spawn_blocking(move || ConfigText::read(&path)).await;
        // Invariant: the task is not cancelled, and reading a file does not panic.
        let Ok(read) = read else { return "serving" };
        let parsed = read.and_then(|text| {
            text.refuse_empty()?;
            Config::parse(&text, self.registry)
        });
        match parsed {
            Ok((config, warnings)) => {
                if !warnings.is_empty() {
                    tracing::warn!("the configuration has its doubts:\n{warnings}");
                }
                // Also where it is refused: a secret that is missing may come.
                let files: Vec<_> = config.files().chain([self.path.clone()]).collect();
                self.look(move |watch| watch.follow(files)).await;
                match self.reload.apply(config).await {
                    Ok(_) => "serving",
                    Err(_) => "serving; the newest configuration was refused",
                }
            }
            Err(error) => {
                self.reload.refused(&error);
                tracing::error!("configuration refused, the one before stays in force:\n{error}");
                "serving; the newest configuration is wrong"
            }
        }
    }
}
