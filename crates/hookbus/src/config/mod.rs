//! The configuration: read in two passes, with every mistake at its place.
//!
//! The first pass parses TOML and keeps the place of each key and value; the second reads each table into its type.
//! Nothing here opens a socket or a file but [`ConfigText::read`]; secrets are resolved apart, by
//! [`SourceConfig::resolve`] and [`SinkConfig::missing_credentials`].

mod admin;
mod diagnostic;
mod future;
mod journal;
mod load;
mod mask;
mod network;
mod outline;
mod rate;
mod rejected;
mod respond;
mod route;
mod schema;
mod server;
mod source;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hookbus_core::{SecretRef, form::Redactions, registry::Prepared, route::Route, units::Duration};

pub use admin::Admin;
pub use diagnostic::{ConfigError, Document, Mistakes};
pub use journal::{DeadLetters, Dedup, Journal, Share, WhenFull};
pub use load::ConfigText;
pub use network::Network;
pub(crate) use network::one_customer;
pub use outline::{Changes, Outline};
pub use rate::RateLimit;
pub use rejected::{Keep, Rejected};
pub use respond::Respond;
pub use schema::schema;
pub use server::{ForwardingHeader, Limits, Server, ServerTls, Timeouts};
pub use source::{Ack, Order, SourceConfig};

/// A configuration that is known to be sound.
#[derive(Debug)]
pub struct Config {
    /// The folder that relative paths start from: the one the file is in.
    pub base: PathBuf,
    /// The listener and its limits.
    pub server: Server,
    /// The admin listener, where one is wanted.
    pub admin: Option<Admin>,
    /// The data folder and what accepted events may take there. `dir` starts from `base` already.
    pub journal: Journal,
    /// Where events go that no try can deliver.
    pub dead_letters: DeadLetters,
    /// What is kept of requests that were not accepted; nothing where the file does not say.
    pub rejected: Option<Rejected>,
    /// Who may send.
    pub sources: Vec<SourceConfig>,
    /// Where events go.
    pub sinks: Vec<SinkConfig>,
    /// Which event goes where; a target's `sink` is a place in `sinks`.
    pub routes: Vec<Route>,
    /// What it says, to be compared with another one.
    pub outline: Outline,
}

/// What must not be seen of each source's events.
pub(crate) fn redactions<'s>(sources: impl IntoIterator<Item = &'s SourceConfig>) -> Redactions {
    sources.into_iter().map(|source| (Arc::clone(&source.name), source.redact.clone())).collect()
}

/// A sink that is ready to be opened.
#[derive(Debug)]
pub struct SinkConfig {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Its type.
    pub sink_type: &'static str,
    /// How long one publish may take.
    pub publish_timeout: Duration,
    /// What it may take of the journal.
    pub share: Share,
    /// What opens it.
    pub prepared: Prepared,
}

impl Config {
    /// The files it takes secrets of sources from: what changes there is to be read again. What sinks log in with they
    /// read themselves, each time they connect.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let file = |secret: &SecretRef| match secret {
            SecretRef::File(path) => Some(self.base.join(path)),
            SecretRef::Env(_) => None,
        };
        self.sources
            .iter()
            .flat_map(|source| source.secrets.iter().chain(&source.verify_token))
            .filter_map(file)
    }
}

impl SinkConfig {
    /// Reads the credentials and says which cannot be had, in words that show none of them. Relative files start
    /// from `base`.
    pub fn missing_credentials(&self, base: &Path) -> Vec<String> {
        let resolve = |credential: &SecretRef| credential.resolve(base).err();
        let missing = self.prepared.credentials().iter().filter_map(resolve);
        missing.map(|error| format!("sink `{}`: {error}", self.name)).collect()
    }
}
