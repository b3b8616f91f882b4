//! `[rejected]`: what is kept of requests that were not accepted.

use hookbus_core::{
    config::{Problem, Table},
    units::{ByteSize, Duration},
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The smallest `max-size`.
const MIN_SIZE: ByteSize = ByteSize::from_bytes(1 << 20);
/// The largest `body`.
const MAX_BODY: ByteSize = ByteSize::from_bytes(1 << 20);

/// The record of requests that were not accepted, in the data folder. Where no source needs that folder, this section
/// makes it all the same.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "rejected")]
pub struct Rejected {
    /// What is kept of a request; a source may say otherwise. Default: `whole`.
    pub keep: Keep,
    /// Bytes on disk for each source, at least `1MiB`; the oldest requests go first. Default: `64MiB`.
    pub max_size: ByteSize,
    /// When a request is gone at the latest. Default: `24h`.
    pub retention: Duration,
    /// How much of a body is kept, up to `1MiB`. Default: `64KiB`.
    pub body: ByteSize,
    /// How long a source that has verified before must get nothing but refused requests before that is an alarm.
    /// Default: `2m`.
    pub alarm_after: Duration,
}

impl Default for Rejected {
    fn default() -> Self {
        Self {
            keep: Keep::default(),
            max_size: ByteSize::from_bytes(64 << 20),
            retention: Duration::from_secs(86_400),
            body: ByteSize::from_bytes(64 << 10),
            alarm_after: Duration::from_secs(120),
        }
    }
}

/// What is kept of a request that was not accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Its head and its body.
    #[default]
    Whole,
    /// Its head.
    Heads,
    /// Nothing: it is counted.
    Counts,
}

impl Rejected {
    /// What is wrong with sizes that are right each by itself.
    pub(super) fn problems(&self, table: &Table<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.max_size < MIN_SIZE {
            let message = format!("`max-size` is {}, less than {MIN_SIZE}", self.max_size);
            problems.push(table.problem_at("max-size", message));
        }
        let most = ByteSize::from_bytes(MAX_BODY.get().min(self.max_size.get() / 16));
        if self.body > most {
            let message = format!("`body` is {}, more than {most}", self.body);
            let help = format!("at most {MAX_BODY}, and a sixteenth of `max-size`");
            problems.push(table.problem_at("body", message).help(help));
        }
        problems
    }
}
