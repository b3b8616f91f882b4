//! Telling the operator of refused requests without letting a flood of them write the log.

use super::{client::Client, seldom::Seldom};

/// The refused requests of a source.
#[derive(Debug)]
pub(super) struct Refusals {
    source: String,
    seldom: Seldom,
}

impl Refusals {
    pub(super) fn new(source: &str) -> Self {
        Self { source: source.to_owned(), seldom: Seldom::default() }
    }

    /// Notes a refused request; writes a line where the last one is long enough ago.
    pub(super) fn note(&self, reason: &'static str, client: Client) {
        if let Some(unreported_before) = self.seldom.due() {
            tracing::warn!(source = self.source, reason, %client, via = client.via.as_str(), unreported_before, "request refused");
        }
    }
}
