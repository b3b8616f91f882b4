//! `[journal]`: the data folder and what accepted events may take there; `[dead-letters]`; and what each sink may take.

use std::path::PathBuf;

use hookbus_core::{
    config::{Problem, Table},
    units::{ByteSize, Duration},
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The smallest `segment-size`.
const MIN_SEGMENT: ByteSize = ByteSize::from_bytes(1 << 20);

/// The journal: accepted events on disk until every sink has them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "journal")]
pub struct Journal {
    /// The data folder, made with mode 0700: journal, dead letters, their key. Default: `hookbus-data`.
    pub dir: PathBuf,
    /// Bytes of all events: delivered ones go when they are reached, undelivered ones count towards refusal. Default:
    /// `10GiB`.
    pub max_size: ByteSize,
    /// How long delivered events are kept. Default: `30d`.
    pub retention: Duration,
    /// Bytes of one file, at least `1MiB`. Default: `128MiB`.
    pub segment_size: ByteSize,
    /// How re-deliveries are recognised.
    pub dedup: Dedup,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            dir: "hookbus-data".into(),
            max_size: ByteSize::from_bytes(10 << 30),
            retention: Duration::from_secs(30 * 86_400),
            segment_size: ByteSize::from_bytes(128 << 20),
            dedup: Dedup::default(),
        }
    }
}

impl Journal {
    /// Bytes that the body of an event may have: what is larger is refused, because no segment takes it.
    pub(super) fn largest_body(&self) -> u64 {
        /// Headers, destinations and cursors that stand in the same segment.
        const BESIDE: u64 = 64 << 10;
        let largest = hookbus_journal::Settings::largest(self.segment_size.get(), self.max_size.get());
        largest.saturating_sub(BESIDE.min(largest / 8))
    }

    /// What is wrong with sizes that are right each by itself.
    pub(super) fn problems(&self, table: &Table<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.segment_size < MIN_SEGMENT {
            let message = format!("`segment-size` is {}, less than {MIN_SEGMENT}", self.segment_size);
            problems.push(table.problem_at("segment-size", message));
        }
        if self.max_size.get() / 2 < self.segment_size.get() {
            let message = format!(
                "`max-size` ({}) has no room for two segments of {}",
                self.max_size, self.segment_size
            );
            let help = "raise `max-size`, or lower `segment-size`";
            let at = if table.has("max-size") { "max-size" } else { "segment-size" };
            problems.push(table.problem_at(at, message).help(help));
        }
        problems
    }
}

/// The memory for re-deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "dedup")]
pub struct Dedup {
    /// How long a re-delivery is recognised. Default: `3d`.
    pub window: Duration,
    /// Bytes on disk; when they are reached the oldest go, and the window is shorter. Default: `256MiB`.
    pub max_size: ByteSize,
}

impl Default for Dedup {
    fn default() -> Self {
        Self { window: Duration::from_secs(3 * 86_400), max_size: ByteSize::from_bytes(256 << 20) }
    }
}

/// The store of dead letters, in the data folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "dead-letters")]
pub struct DeadLetters {
    /// Bytes of all dead letters; at this, nothing is accepted that would end there: 503. Default: `256MiB`.
    pub max_size: ByteSize,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self { max_size: ByteSize::from_bytes(256 << 20) }
    }
}

/// What happens to events for a sink that has `max-pending` waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They are not accepted: 503.
    #[default]
    Refuse,
    /// They are accepted and become dead letters at that sink.
    DeadLetter,
}

/// What a sink of any type may take of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Bytes of undelivered events. Half of the journal's `max-size`, where the file does not say.
    pub max_pending: ByteSize,
    /// What happens beyond.
    pub when_full: WhenFull,
    /// Whether the bridge is ready only when this sink is.
    pub required: bool,
}

impl Share {
    /// Takes the keys out of a sink's table.
    pub(super) fn take(table: &mut Table<'_>, max_size: ByteSize) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let half = ByteSize::from_bytes((max_size.get() / 2).max(1));
        let mut share = Self { max_pending: half, when_full: WhenFull::default(), required: true };
        if let Some((_, value)) = table.take("max-pending") {
            let parsed = value.get_ref().as_str().map(str::parse::<ByteSize>);
            match parsed.unwrap_or_else(|| Err("`max-pending` must be a text such as \"4GiB\"".into())) {
                Ok(size) if size > max_size => {
                    let message =
                        format!("`max-pending` is {size}, more than the journal's `max-size` of {max_size}");
                    problems.push(Problem::new(value.span(), message));
                }
                Ok(size) => share.max_pending = size,
                Err(wrong) => problems.push(Problem::new(value.span(), wrong)),
            }
        }
        if let Some((_, value)) = table.take("when-full") {
            match value.get_ref().as_str() {
                Some("refuse") => share.when_full = WhenFull::Refuse,
                Some("dead-letter") => share.when_full = WhenFull::DeadLetter,
                _ => problems.push(
                    Problem::new(value.span(), "`when-full` is none of its values")
                        .help("allowed are `refuse`, `dead-letter`"),
                ),
            }
        }
        if let Some((_, value)) = table.take("required") {
            match value.get_ref().as_bool() {
                Some(required) => share.required = required,
                None => problems.push(Problem::new(value.span(), "`required` must be `true` or `false`")),
            }
        }
        if problems.is_empty() { Ok(share) } else { Err(problems) }
    }
}
