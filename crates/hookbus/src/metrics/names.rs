//! Every metric there is: its name, its labels and what it says. `docs/metrics.md` shows this list.

/// One metric, as it is registered and documented.
#[derive(Debug)]
pub(crate) struct Metric {
    /// The name of its samples; of a histogram they end in `_bucket`, `_sum` and `_count` besides.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// All of them have values from the configuration or from a closed list.
    pub(crate) labels: &'static [&'static str],
    help: &'static str,
}

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

impl Metric {
    /// The name of the family: without what the text format adds to each sample.
    pub(crate) fn family(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }

    /// What it says, in a sentence.
    pub(crate) fn help(&self) -> &'static str {
        self.help.trim_start()
    }
}

/// Makes a constant of each metric, with its documentation as its help text, and the list of all.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $constant:ident = $kind:ident $name:literal [$($label:literal),*];)+) => {
        $(
            $(#[doc = $help])+
            pub(crate) const $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: concat!($($help),+),
            };
        )+
        /// All metrics, in the order they are shown in.
        #[cfg(test)]
        pub(crate) const ALL: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    /// Requests by what they were answered; `source` is empty where a request names none.
    REQUESTS = Counter "hookbus_requests_total" ["source", "answer"];
    /// Requests that did not verify, by reason.
    REFUSED = Counter "hookbus_requests_refused_total" ["source", "reason"];
    /// From the end of a request's headers to its answer.
    REQUEST_DURATION = Histogram "hookbus_request_duration_seconds" ["source"];
    /// Bytes of bodies that were read to their end.
    BODY_BYTES = Counter "hookbus_request_body_bytes_total" ["source"];
    /// Whether a source has no secret yet, so that its events are answered 503.
    AWAITING_SECRET = Gauge "hookbus_source_awaiting_secret" ["source"];
    /// Requests that verified.
    VERIFIED = Counter "hookbus_requests_verified_total" ["source"];
    /// 1 while something is wrong with all requests of a source, 0 else.
    SOURCE_ALARM = Gauge "hookbus_source_alarm" ["source", "alarm"];
    /// Requests that were not accepted, and are kept in detail.
    REJECTED_KEPT = Counter "hookbus_rejected_kept_total" ["source"];
    /// Requests that were not accepted, and are only counted, by the reason for that.
    REJECTED_NOT_KEPT = Counter "hookbus_rejected_not_kept_total" ["source", "why"];
    /// Bytes written to keep requests that were not accepted.
    REJECTED_WRITTEN = Counter "hookbus_rejected_written_bytes_total" ["source"];
    /// Bytes on disk of requests that were not accepted.
    REJECTED_DISK = Gauge "hookbus_rejected_disk_bytes" ["source"];
    /// Bytes received on all connections, headers included.
    RECEIVED_BYTES = Counter "hookbus_http_received_bytes_total" [];
    /// Connections that are open.
    CONNECTIONS = Gauge "hookbus_http_connections" [];
    /// Connections that were let in.
    CONNECTIONS_ACCEPTED = Counter "hookbus_http_connections_accepted_total" [];
    /// Connections that there was no place for; they were answered 503 or closed.
    CONNECTIONS_TURNED_AWAY = Counter "hookbus_http_connections_turned_away_total" [];
    /// Connections that were told to end to make room for others.
    CONNECTIONS_CLOSED_FOR_ROOM = Counter "hookbus_http_connections_closed_for_room_total" [];
    /// TLS handshakes by what came of them.
    TLS_HANDSHAKES = Counter "hookbus_http_tls_handshakes_total" ["outcome"];
    /// When the certificate in use expires, in seconds since 1970; absent without TLS.
    TLS_EXPIRES = Gauge "hookbus_http_tls_certificate_expires_seconds" [];
    /// 1 where the certificate and key that are in the files now are in use, 0 where they were refused; absent without TLS.
    TLS_CURRENT = Gauge "hookbus_http_tls_certificate_current" [];
    /// Connections of trusted proxies that were closed because their PROXY header was missing or broken.
    WITHOUT_PROXY_HEADER = Counter "hookbus_http_connections_without_proxy_header_total" [];

    /// Events that a sink took responsibility for.
    DELIVERED = Counter "hookbus_sink_delivered_events_total" ["sink"];
    /// Tries of events by their outcome; an event that is tried again counts again.
    ATTEMPTS = Counter "hookbus_sink_attempts_total" ["sink", "outcome"];
    /// Tries that failed, by the kind of error.
    ERRORS = Counter "hookbus_sink_errors_total" ["sink", "kind"];
    /// Events in each batch that was handed to a sink.
    BATCH_EVENTS = Histogram "hookbus_sink_batch_events" ["sink"];
    /// How long a sink took for each batch.
    PUBLISH_DURATION = Histogram "hookbus_sink_publish_duration_seconds" ["sink"];
    /// Events that no try can deliver, once they are safe among the dead letters, by reason.
    DEAD_LETTERS = Counter "hookbus_sink_dead_letters_total" ["sink", "reason"];
    /// 1 for the state a sink is in, 0 for the others.
    SINK_STATE = Gauge "hookbus_sink_state" ["sink", "state"];
    /// Events in the queue of a sink's lane.
    LANE_EVENTS = Gauge "hookbus_sink_lane_events" ["sink"];
    /// Batches handed to a sink and not answered yet.
    BATCHES_IN_FLIGHT = Gauge "hookbus_sink_batches_in_flight" ["sink"];
    /// Events accepted for a sink and not resolved; in a bridge without a journal, those that requests wait for.
    PENDING_EVENTS = Gauge "hookbus_sink_pending_events" ["sink"];
    /// Bytes these events hold.
    PENDING_BYTES = Gauge "hookbus_sink_pending_bytes" ["sink"];
    /// Age of the oldest of these events; absent where that is not known.
    OLDEST_PENDING = Gauge "hookbus_sink_oldest_pending_seconds" ["sink"];

    /// Events appended to the journal.
    APPENDED_EVENTS = Counter "hookbus_journal_appended_events_total" [];
    /// Bytes appended to the journal.
    APPENDED_BYTES = Counter "hookbus_journal_appended_bytes_total" [];
    /// Events in each group that was made durable by one fsync.
    GROUP_EVENTS = Histogram "hookbus_journal_group_events" [];
    /// How long each fsync of the journal took.
    FSYNC_DURATION = Histogram "hookbus_journal_fsync_duration_seconds" [];
    /// Bytes the journal occupies on disk.
    DISK_BYTES = Gauge "hookbus_journal_disk_bytes" [];
    /// Segment files of the journal.
    SEGMENTS = Gauge "hookbus_journal_segments" [];
    /// 1 for the state the journal is in, 0 for the others.
    JOURNAL_STATE = Gauge "hookbus_journal_state" ["state"];
    /// How far back a re-delivery is recognised now.
    DEDUP_WINDOW = Gauge "hookbus_journal_dedup_window_seconds" [];
    /// Events the journal recognised as re-deliveries.
    DUPLICATES = Counter "hookbus_journal_duplicates_total" [];

    /// Configurations that were read anew, by what became of them: applied or refused.
    RELOADS = Counter "hookbus_config_reloads_total" ["result"];
    /// 1 where the newest configuration and all secrets are in use, 0 where something of them was refused.
    RELOAD_SUCCESSFUL = Gauge "hookbus_config_last_reload_successful" [];
    /// When the configuration in use was loaded, in seconds since 1970.
    RELOADED = Gauge "hookbus_config_last_reload_success_timestamp_seconds" [];

    /// 1 where `/readyz` says ready, else 0.
    READY = Gauge "hookbus_ready" [];
    /// 1, with the version that runs.
    BUILD = Info "hookbus_build_info" ["version"];
    /// When the bridge was started, in seconds since 1970.
    STARTED = Gauge "process_start_time_seconds" [];
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, fs, path::Path};

    use hookbus_core::{ErrorKind, HealthState, Refusal};

    use super::*;
    use crate::{
        admin::JournalState,
        metrics::{Answered, Handshake},
        rejected::{NotKept, Standing},
    };

    #[test]
    fn names_keep_to_the_rules() {
        for (at, metric) in ALL.iter().enumerate() {
            let name = metric.name;
            assert!(ALL[..at].iter().all(|other| other.family() != metric.family()), "{name} is there twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), metric.kind == Kind::Info, "{name}");
            assert!(name.starts_with("hookbus_") || name.starts_with("process_"), "{name}");
            // What the text format would have to escape.
            assert!(metric.help().ends_with('.') && !metric.help().contains(['\\', '\n', '"']), "{name}");
        }
    }

    #[test]
    fn the_page_lists_every_metric() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let page = fs::read_to_string(&path).unwrap();
        let mut table = "| name | kind | labels | what it says |\n|---|---|---|---|\n".to_owned();
        for metric in ALL {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (kind, labels) = (format!("{:?}", metric.kind).to_lowercase(), labels.join(", "));
            writeln!(table, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help()).unwrap();
        }
        assert!(page.contains(&table), "docs/metrics.md must have this table:\n{table}");
        let answers = Answered::ALL.into_iter().map(Answered::as_str);
        let refusals = Refusal::ALL.into_iter().map(Refusal::as_str);
        let kinds = ErrorKind::ALL.into_iter().map(ErrorKind::as_str);
        let states = HealthState::ALL.into_iter().map(HealthState::as_str);
        let journal = JournalState::ALL.into_iter().map(JournalState::as_str);
        let alarms = Standing::ALARMS.into_iter().map(Standing::as_str);
        let not_kept = NotKept::ALL.into_iter().map(NotKept::as_str);
        let handshakes = Handshake::ALL.into_iter().map(Handshake::as_str);
        let known = answers.chain(refusals).chain(kinds).chain(states).chain(journal);
        for value in known.chain(alarms).chain(not_kept).chain(handshakes) {
            assert!(page.contains(&format!("`{value}`")), "docs/metrics.md does not list {value}");
        }
    }
}
