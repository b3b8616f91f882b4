//! Commands on the journal of a folder: how it is, what is wrong with it, a copy of it.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hookbus_core::RecordKey;
use hookbus_journal::{
    AtRest, DeadLetters, Folder, InspectError, Journal, Pending, Running, State, at_rest, backup, check,
};
use serde::{Deserialize, Serialize};
use tokio::{task::spawn_blocking, time::timeout};

use super::{Replies, Reply, Stopped};

/// How often whoever waits is told that it goes on.
pub(super) const TELL: Duration = Duration::from_secs(10);

/// What to do with the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnJournal {
    /// Say how it is.
    Status,
    /// Read all of it and say what is wrong.
    Check,
    /// Copy it to a new folder: an absolute path.
    Backup { to: PathBuf },
}

/// A data folder, and who in this process has what of it open.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) key: RecordKey,
    pub(crate) journal: Option<Journal>,
    pub(crate) letters: Option<DeadLetters>,
}

/// How a journal is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JournalLine {
    /// `ready`, `full` or `failed` where it is open, else `closed`.
    pub(crate) state: String,
    pub(crate) segments: u64,
    pub(crate) disk_bytes: u64,
    /// How far back re-deliveries are recognised, where it is open.
    pub(crate) dedup_seconds: Option<u64>,
    pub(crate) dead_letters: u64,
    /// Acknowledged events that are known to be damaged, at most.
    pub(crate) damaged: u64,
    pub(crate) sinks: Vec<SinkLine>,
}

/// What one sink has to get.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SinkLine {
    pub(crate) sink: String,
    pub(crate) pending_events: u64,
    pub(crate) pending_bytes: u64,
    /// How long ago the oldest was received.
    pub(crate) oldest_seconds: Option<u64>,
}

impl Kept {
    /// Does what is asked; how many things were looked at, and how many of them are not well.
    pub(super) async fn answer(&self, command: OnJournal, replies: &Replies) -> Result<(u64, u64), Stopped> {
        let kept = self.clone();
        match command {
            OnJournal::Status => {
                let status = working(replies, move || kept.status()).await??;
                let sinks = status.sinks.len() as u64;
                replies.send(Reply::Journal(Box::new(status))).await.map_err(|_| Stopped::gone())?;
                Ok((sinks, 0))
            }
            OnJournal::Check => {
                let report = working(replies, move || kept.check()).await??;
                let wrong = report.findings.len() as u64;
                for finding in report.findings {
                    replies.send(Reply::Finding(finding)).await.map_err(|_| Stopped::gone())?;
                }
                Ok(((report.segments + report.tables + report.letters) as u64, wrong))
            }
            OnJournal::Backup { to } => {
                let done = working(replies, move || kept.backup(&to)).await??;
                Ok((done.files, 0))
            }
        }
    }

    fn status(&self) -> Result<JournalLine, InspectError> {
        let Some(journal) = &self.journal else {
            let AtRest { pending, disk_bytes, segments, letters, damaged, .. } =
                at_rest(Arc::clone(&self.folder), self.key.clone())?;
            let dead_letters = self.letters.as_ref().map_or(letters, |letters| letters.len() as u64);
            let (state, sinks) = ("closed".into(), pending.iter().map(SinkLine::new).collect());
            let dedup_seconds = None;
            return Ok(JournalLine {
                state,
                segments,
                disk_bytes,
                dedup_seconds,
                dead_letters,
                damaged,
                sinks,
            });
        };
        let figures = journal.figures();
        let state = match journal.state() {
            State::Ready => "ready",
            State::Full => "full",
            State::Failed => "failed",
        };
        Ok(JournalLine {
            state: state.into(),
            segments: figures.segments,
            disk_bytes: figures.disk_bytes,
            dedup_seconds: Some(figures.dedup_window.as_secs()),
            dead_letters: self.letters.as_ref().map_or(0, |letters| letters.len() as u64),
            damaged: journal.damaged(),
            sinks: journal.pending().iter().map(SinkLine::new).collect(),
        })
    }

    fn check(&self) -> Result<hookbus_journal::Report, InspectError> {
        let mut report = match &self.journal {
            Some(journal) => journal.check()?,
            None if self.letters.is_none() => return check(Arc::clone(&self.folder), self.key.clone()),
            None => hookbus_journal::Report::default(),
        };
        if let Some(letters) = &self.letters {
            report.add(letters.check()?);
        }
        Ok(report)
    }

    fn backup(&self, to: &std::path::Path) -> Result<hookbus_journal::BackedUp, InspectError> {
        let running = Running { journal: self.journal.as_ref(), letters: self.letters.as_ref() };
        backup(&self.folder, &self.key, running, to)
    }
}

impl SinkLine {
    fn new(pending: &Pending) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            sink: pending.sink.to_string(),
            pending_events: pending.events,
            pending_bytes: pending.bytes,
            oldest_seconds: pending.oldest.map(|oldest| now.saturating_sub(oldest)),
        }
    }
}

/// Does what blocks, and tells meanwhile that it goes on.
async fn working<T: Send + 'static>(
    replies: &Replies,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let mut work = spawn_blocking(work);
    loop {
        match timeout(TELL, &mut work).await {
            Ok(done) => return done.map_err(Stopped::from),
            // Nobody waits any more: it comes to its end all the same.
            Err(_) => drop(replies.send(Reply::Working).await),
        }
    }
}
