//! The journal of a running bridge: opened from its data folder, watched, and closed in the end.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hookbus_journal::{DataFolder, Journal, Observer, Settings, SinkSettings, State, Threads, dedup};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    admin::JournalState,
    bridge::StartError,
    config::{Config, Share, SinkConfig},
    metrics::{JournalFigures, Metrics, Pending, SinkMetrics},
};

/// How often the journal's state is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long its threads may take to write what is there, at the end.
const CLOSE: Duration = Duration::from_secs(10);

/// What the journal is opened with.
pub(crate) struct Opening {
    settings: Settings,
    sinks: Vec<SinkSettings>,
}

/// A journal that runs.
#[derive(Debug)]
pub(crate) struct RunningJournal {
    pub(crate) journal: Journal,
    state: watch::Receiver<JournalState>,
    threads: Threads,
    telling: JoinHandle<()>,
    watching: JoinHandle<()>,
}

impl Opening {
    pub(crate) fn new(config: &Config) -> Self {
        let journal = &config.journal;
        let dedup =
            dedup::Settings { window: journal.dedup.window.get(), max_size: journal.dedup.max_size.get() };
        let settings = Settings {
            segment_size: journal.segment_size.get(),
            max_size: journal.max_size.get(),
            retention: journal.retention.get(),
            dedup,
            observer: None,
        };
        Self { settings, sinks: config.sinks.iter().map(share).collect() }
    }

    /// Opens the journal without a bridge, for whoever has the folder to himself.
    pub(crate) async fn alone(self, data: &DataFolder) -> Result<RunningJournal, StartError> {
        let (folder, key) = (data.folder(), data.key().clone());
        let opening = spawn_blocking(move || Journal::open(folder, key, self.settings, &self.sinks));
        let opened = opening.await.map_err(|_| StartError::Data("the journal could not be opened".into()))?;
        let (journal, threads) = opened.map_err(|error| StartError::Data(error.to_string()))?;
        let tells = journal.clone();
        let telling = tokio::spawn(async move { tells.tell().await });
        let (say, state) = watch::channel(JournalState::Ready);
        let watching = tokio::spawn(watch_state(journal.clone(), say));
        Ok(RunningJournal { journal, state, threads, telling, watching })
    }

    /// Opens the journal of a bridge. Sinks that are configured no more and have events to get are refused.
    pub(crate) async fn open(
        mut self,
        data: &DataFolder,
        metrics: &Metrics,
    ) -> Result<RunningJournal, StartError> {
        self.settings.observer = Some(Arc::clone(&metrics.journal) as Arc<dyn Observer>);
        let names: Vec<_> = self.sinks.iter().map(|sink| Arc::clone(&sink.name)).collect();
        let running = self.alone(data).await?;
        if let Some((_, pending)) = running.journal.unknown().first() {
            let (sink, events) = (Arc::clone(&pending.sink), pending.events);
            running.stop().await;
            return Err(StartError::Retired { sink, events });
        }
        let journal = running.journal.clone();
        metrics.journal.figures.from(move || {
            let figures = journal.figures();
            JournalFigures {
                disk_bytes: figures.disk_bytes,
                segments: figures.segments,
                dedup_window: figures.dedup_window,
                duplicates: figures.duplicates,
            }
        });
        for (at, sink) in names.iter().enumerate() {
            running.show_pending(at, &metrics.sink(sink));
        }
        Ok(running)
    }
}

impl RunningJournal {
    /// Keeps events for this sink too, or with this share from now on.
    pub(crate) fn add(&self, name: &Arc<str>, share: Share, metrics: &SinkMetrics) {
        let sink = SinkSettings { name: Arc::clone(name), max_pending: share.max_pending.get() };
        self.show_pending(self.journal.add(&sink), metrics);
    }

    fn show_pending(&self, at: usize, metrics: &SinkMetrics) {
        let journal = self.journal.clone();
        metrics.pending.from(move || {
            let Some(pending) = journal.pending().into_iter().nth(at) else { return Pending::default() };
            let since = pending.oldest.map(|oldest| UNIX_EPOCH + Duration::from_secs(oldest));
            let oldest = since.map(|since| SystemTime::now().duration_since(since).unwrap_or_default());
            Pending { events: pending.events, bytes: pending.bytes, oldest }
        });
    }

    /// How the journal is doing, now and from now on.
    pub(crate) fn state(&self) -> watch::Receiver<JournalState> {
        self.state.clone()
    }

    /// Writes what is there and ends.
    pub(crate) async fn stop(self) {
        let Self { journal, threads, telling, watching, .. } = self;
        watching.abort();
        journal.close();
        let joined = timeout(CLOSE, spawn_blocking(move || threads.join())).await;
        if joined.is_err() {
            tracing::warn!("the journal did not close in time");
        }
        let _ = timeout(CLOSE, telling).await;
    }
}

fn share(sink: &SinkConfig) -> SinkSettings {
    SinkSettings { name: Arc::clone(&sink.name), max_pending: sink.share.max_pending.get() }
}

async fn watch_state(journal: Journal, say: watch::Sender<JournalState>) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let state = match journal.state() {
            State::Ready => JournalState::Ready,
            State::Full => JournalState::Full,
            State::Failed => JournalState::Failed,
        };
        say.send_if_modified(|said| std::mem::replace(said, state) != state);
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({} sinks)", self.sinks.len())
    }
}
