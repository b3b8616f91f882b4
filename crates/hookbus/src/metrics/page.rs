//! The page that a scrape asks for.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use hookbus_core::HealthState;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
    },
    metrics::MetricType,
};

use super::{
    Metrics, SinkMetrics, SourceMetrics,
    histogram::Histogram,
    names::{self, Kind, Metric},
};
use crate::{
    admin::{Certificate, JournalState},
    rejected::{Figures, Standing},
};

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.requests(&mut page)?;
        self.rejected(&mut page)?;
        self.connections(&mut page)?;
        self.deliveries(&mut page)?;
        self.lanes(&mut page)?;
        self.journal(&mut page)?;
        self.reloads(&mut page)?;
        page.gauges(&names::READY, [([], f64::from(self.status.is_ready()))])?;
        page.info(&names::BUILD, [env!("CARGO_PKG_VERSION")])?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.gauges(&names::STARTED, [([], started.as_secs_f64())])
    }
}

impl Metrics {
    fn requests(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = self.sources();
        let sources = || all.iter().map(|source| -> &SourceMetrics { source });
        let with_none = || sources().chain([&*self.no_source]);
        page.counters(
            &names::REQUESTS,
            with_none().flat_map(|source| labelled(&source.source, source.answers())),
        )?;
        page.counters(
            &names::REFUSED,
            sources().flat_map(|source| labelled(&source.source, source.refusals())),
        )?;
        let duration = sources().map(|source| ([&*source.source], &source.duration));
        page.histograms(&names::REQUEST_DURATION, duration)?;
        page.counters(
            &names::BODY_BYTES,
            sources().map(|source| ([&*source.source], get(&source.body_bytes))),
        )?;
        let configured = self.status.configured();
        let awaiting =
            configured.sources.iter().map(|source| ([&*source.name], f64::from(source.awaits_secret)));
        page.gauges(&names::AWAITING_SECRET, awaiting)
    }

    fn reloads(&self, page: &mut Page<'_>) -> fmt::Result {
        let figures = self.status.reloads.figures();
        page.counters(&names::RELOADS, figures.results.map(|(result, count)| ([result], count)))?;
        page.gauges(&names::RELOAD_SUCCESSFUL, [([], f64::from(figures.current))])?;
        let loaded = figures.loaded.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.gauges(&names::RELOADED, [([], loaded.as_secs_f64())])
    }

    fn rejected(&self, page: &mut Page<'_>) -> fmt::Result {
        let sources = self.sources();
        let known = sources.iter().filter_map(|source| self.status.rejections(&source.source));
        let known: Vec<_> = known.collect();
        let counters = |value: fn(&Figures) -> u64| {
            known.iter().map(move |one| ([&**one.source()], value(one.figures())))
        };
        page.counters(&names::VERIFIED, counters(Figures::verified_requests))?;
        let alarms = known.iter().flat_map(|one| {
            let now = one.standing();
            Standing::ALARMS.map(|alarm| ([&**one.source(), alarm.as_str()], f64::from(alarm == now)))
        });
        page.gauges(&names::SOURCE_ALARM, alarms)?;
        page.counters(&names::REJECTED_KEPT, counters(Figures::kept_requests))?;
        let not_kept = known.iter().flat_map(|one| labelled(one.source(), one.figures().not_kept_requests()));
        page.counters(&names::REJECTED_NOT_KEPT, not_kept)?;
        page.counters(&names::REJECTED_WRITTEN, counters(Figures::written_bytes))?;
        let disk = counters(Figures::disk_bytes).map(|(source, bytes)| (source, bytes as f64));
        page.gauges(&names::REJECTED_DISK, disk)
    }

    fn connections(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = &self.connections;
        page.counters(&names::RECEIVED_BYTES, [([], get(&all.received_bytes))])?;
        page.gauges(&names::CONNECTIONS, [([], get(&all.open) as f64)])?;
        page.counters(&names::CONNECTIONS_ACCEPTED, [([], get(&all.accepted))])?;
        page.counters(&names::CONNECTIONS_TURNED_AWAY, [([], get(&all.turned_away))])?;
        page.counters(&names::CONNECTIONS_CLOSED_FOR_ROOM, [([], get(&all.closed_for_room))])?;
        page.counters(&names::TLS_HANDSHAKES, all.handshakes().map(|(outcome, count)| ([outcome], count)))?;
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let certificate = self.status.certificate.now().flatten();
        page.gauges(&names::TLS_EXPIRES, certificate.iter().map(|it| ([], seconds(it.until))))?;
        let current = |it: &Certificate| if it.refused.is_none() { 1.0 } else { 0.0 };
        page.gauges(&names::TLS_CURRENT, certificate.iter().map(|it| ([], current(it))))?;
        page.counters(&names::WITHOUT_PROXY_HEADER, [([], get(&all.without_proxy_header))])
    }

    fn deliveries(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = self.sinks();
        let sinks = || all.iter().map(|sink| -> &SinkMetrics { sink });
        page.counters(&names::DELIVERED, sinks().map(|sink| ([&*sink.sink], sink.delivered())))?;
        page.counters(&names::ATTEMPTS, sinks().flat_map(|sink| labelled(&sink.sink, sink.outcomes())))?;
        page.counters(&names::ERRORS, sinks().flat_map(|sink| labelled(&sink.sink, sink.errors())))?;
        page.histograms(&names::BATCH_EVENTS, sinks().map(|sink| ([&*sink.sink], &sink.batch_events)))?;
        let duration = sinks().map(|sink| ([&*sink.sink], &sink.publish_duration));
        page.histograms(&names::PUBLISH_DURATION, duration)?;
        page.counters(
            &names::DEAD_LETTERS,
            sinks().flat_map(|sink| labelled(&sink.sink, sink.dead_letters())),
        )
    }

    fn lanes(&self, page: &mut Page<'_>) -> fmt::Result {
        let configured = self.status.configured();
        let states = configured.sinks.iter().flat_map(|sink| {
            let now = sink.health().state;
            HealthState::ALL.map(|state| ([&*sink.name, state.as_str()], f64::from(state == now)))
        });
        page.gauges(&names::SINK_STATE, states)?;
        let all = self.sinks();
        let sinks = || all.iter().map(|sink| -> &SinkMetrics { sink });
        let gauge = |value: fn(&SinkMetrics) -> f64| sinks().map(move |sink| ([&*sink.sink], value(sink)));
        page.gauges(&names::LANE_EVENTS, gauge(|sink| get(&sink.lane_events) as f64))?;
        page.gauges(&names::BATCHES_IN_FLIGHT, gauge(|sink| get(&sink.batches_in_flight) as f64))?;
        // Read once, so that the figures of a sink belong together.
        let pending: Vec<_> = sinks().filter_map(|sink| Some(([&*sink.sink], sink.pending.now()?))).collect();
        let pending = || pending.iter().copied();
        page.gauges(&names::PENDING_EVENTS, pending().map(|(sink, pending)| (sink, pending.events as f64)))?;
        page.gauges(&names::PENDING_BYTES, pending().map(|(sink, pending)| (sink, pending.bytes as f64)))?;
        let oldest = pending().filter_map(|(sink, pending)| Some((sink, pending.oldest?.as_secs_f64())));
        page.gauges(&names::OLDEST_PENDING, oldest)
    }

    fn journal(&self, page: &mut Page<'_>) -> fmt::Result {
        let journal = &self.journal;
        let Some(figures) = journal.figures.now() else { return Ok(()) };
        page.counters(&names::APPENDED_EVENTS, [([], get(&journal.events))])?;
        page.counters(&names::APPENDED_BYTES, [([], get(&journal.bytes))])?;
        page.histograms(&names::GROUP_EVENTS, [([], &journal.group_events)])?;
        page.histograms(&names::FSYNC_DURATION, [([], &journal.fsync_duration)])?;
        page.gauges(&names::DISK_BYTES, [([], figures.disk_bytes as f64)])?;
        page.gauges(&names::SEGMENTS, [([], figures.segments as f64)])?;
        let now = self.status.journal();
        let states = JournalState::ALL.map(|state| ([state.as_str()], f64::from(Some(state) == now)));
        page.gauges(&names::JOURNAL_STATE, states)?;
        page.gauges(&names::DEDUP_WINDOW, [([], figures.dedup_window.as_secs_f64())])?;
        page.counters(&names::DUPLICATES, [([], figures.duplicates)])
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

/// Samples of one thing with a second label.
fn labelled(
    name: &Arc<str>,
    samples: impl Iterator<Item = (&'static str, u64)>,
) -> impl Iterator<Item = ([&str; 2], u64)> {
    samples.map(|(second, value)| ([&**name, second], value))
}

/// Writes metrics under their names; samples have the values of their labels, in order.
struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    fn counters<'l, const N: usize>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'l str; N], u64)>,
    ) -> fmt::Result {
        self.write(metric, samples, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'l str; N], f64)>,
    ) -> fmt::Result {
        self.write(metric, samples, |encoder, value| encoder.encode_gauge(&value))
    }

    fn histograms<'l, const N: usize>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'l str; N], &'l Histogram)>,
    ) -> fmt::Result {
        self.write(metric, samples, |encoder, histogram| histogram.encode(encoder))
    }

    fn info<const N: usize>(&mut self, metric: &Metric, labels: [&str; N]) -> fmt::Result {
        family(&mut self.0, metric)?.encode_info(&Labels { names: metric.labels, values: &labels })
    }

    fn write<'l, const N: usize, T>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'l str; N], T)>,
        encode: impl Fn(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
        let mut family = family(&mut self.0, metric)?;
        for (values, value) in samples {
            let labels = Labels { names: metric.labels, values: &values };
            if N == 0 {
                encode(&mut family, value)?;
            } else {
                encode(&mut family.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }
}

fn family<'p>(page: &'p mut DescriptorEncoder<'_>, metric: &Metric) -> Result<MetricEncoder<'p>, fmt::Error> {
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    };
    page.encode_descriptor(metric.family(), metric.help(), None, kind)
}

/// The labels of a sample, under the names their metric has for them.
struct Labels<'l> {
    names: &'static [&'static str],
    values: &'l [&'l str],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.names
            .iter()
            .zip(self.values)
            .try_for_each(|(name, value)| (*name, *value).encode(encoder.encode_label()))
    }
}
