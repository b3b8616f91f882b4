//! Putting a bridge together: which sinks it knows, and how it runs.

use std::{ffi::OsString, process::ExitCode};

use hookbus_core::{Sink, SinkPlugin, SinkRegistry, registry::RegistryError};
use thiserror::Error;

use crate::{
    Bridge, StartError, Summary, cli,
    config::{Config, ConfigError, ConfigText},
    sinks,
};

/// The way into this library: [`Hookbus::builder`].
#[derive(Debug)]
pub struct Hookbus(());

/// A bridge to be: the sinks it knows. The stock binary and a third party's differ only in what they register here.
#[derive(Debug)]
pub struct Builder {
    registry: SinkRegistry,
    /// The first registration that failed; said when the bridge is used, so that calls can be chained.
    failed: Option<RegistryError>,
}

/// Why a bridge did not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A sink could not be registered.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bridge did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Hookbus {
    /// A bridge that knows no sink yet.
    ///
    /// Makes aws-lc-rs the cryptography of this process for all that does TLS with rustls, unless another one was
    /// installed before.
    pub fn builder() -> Builder {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Builder { registry: SinkRegistry::new(), failed: None }
    }
}

impl Builder {
    /// Adds every first-party sink that is compiled in.
    #[must_use]
    pub fn with_builtin_sinks(self) -> Self {
        self.add(sinks::register_builtin)
    }

    /// Adds a sink type with a configuration of its own.
    #[must_use]
    pub fn register_plugin<P: SinkPlugin>(self) -> Self {
        self.add(SinkRegistry::register_plugin::<P>)
    }

    /// Adds a sink without configuration under a type's name, such as one made by
    /// [`sink_fn`](hookbus_core::sink_fn).
    #[must_use]
    pub fn register(self, name: &'static str, sink: impl Sink) -> Self {
        self.add(|registry| registry.register(name, sink))
    }

    /// Does what the command line says and returns the exit code. Never ends the process itself.
    pub fn run_from_args(self) -> ExitCode {
        self.run_with_args(std::env::args_os())
    }

    /// The same with these arguments, the program's name first.
    pub fn run_with_args(self, args: impl IntoIterator<Item = OsString>) -> ExitCode {
        match self.ready() {
            Ok(registry) => cli::run(&registry, args),
            Err(error) => cli::fail(&error),
        }
    }

    /// Checks the configuration against the sinks that are registered, opens them and listens.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn start(self, config: &ConfigText) -> Result<Bridge, RunError> {
        let (config, _) = Config::parse(config, &self.ready()?)?;
        Ok(Bridge::start(config).await?)
    }

    /// Runs a bridge with this configuration until `shutdown` is there, then ends it in order. To learn its address
    /// first, use [`start`](Self::start) and [`Bridge::serve`].
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn run(
        self,
        config: &ConfigText,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Summary, RunError> {
        Ok(self.start(config).await?.serve(shutdown).await)
    }

    fn add(mut self, register: impl FnOnce(&mut SinkRegistry) -> Result<(), RegistryError>) -> Self {
        if let Err(error) = register(&mut self.registry) {
            self.failed.get_or_insert(error);
        }
        self
    }

    fn ready(self) -> Result<SinkRegistry, RegistryError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.registry),
        }
    }
}
