//! The dead letters of a running bridge, and the data folder they are in. Without either there is nothing on disk: the
//! folder is made for the first letter.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use hookbus_journal::{
    DataFolder, DeadLetters, Journal, Letter, LetterSettings, NotKept, NotOpened, OpenError,
};
use thiserror::Error;
use tokio::sync::{OnceCell, watch};

use crate::{
    config::Config,
    control::{Control, Desk, Kept, Redrive},
    rejected::Rejected,
};

/// How long the folder may take to open.
const OPEN: Duration = Duration::from_secs(60);

/// The dead letters cannot be had.
#[derive(Debug, Error)]
pub(crate) enum Unavailable {
    #[error(transparent)]
    Folder(#[from] OpenError),
    #[error(transparent)]
    Letters(#[from] NotOpened),
    #[error(transparent)]
    NotKept(#[from] NotKept),
    #[error("the data folder could not be opened in time")]
    Late,
}

/// Opens the data folder when it is needed first.
pub(crate) struct LetterBox {
    dir: PathBuf,
    settings: LetterSettings,
    opened: OnceCell<Opened>,
    redrive: OnceLock<Arc<dyn Redrive>>,
    control: Mutex<Option<Control>>,
    journal: OnceLock<Journal>,
    rejected: OnceLock<Arc<Rejected>>,
    state: watch::Sender<LettersState>,
}

/// Whether dead letters can be kept, as the last one showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LettersState {
    /// They can, as far as is known.
    Ready,
    /// They have reached their `max-size`.
    Full,
    /// The disk refused it, or the folder cannot be opened.
    Failing,
}

impl LettersState {
    /// The state in one lower-case word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Failing => "failing",
        }
    }
}

struct Opened {
    letters: DeadLetters,
    data: DataFolder,
}

impl LetterBox {
    pub(crate) fn new(config: &Config) -> Self {
        Self::at(config.journal.dir.clone(), config.dead_letters.max_size.get())
    }

    pub(crate) fn at(dir: PathBuf, max_size: u64) -> Self {
        Self {
            dir,
            settings: settings(max_size),
            opened: OnceCell::new(),
            redrive: OnceLock::new(),
            control: Mutex::new(None),
            journal: OnceLock::new(),
            rejected: OnceLock::new(),
            state: watch::Sender::new(LettersState::Ready),
        }
    }

    /// Whether letters can be kept, now and from now on.
    pub(crate) fn state(&self) -> watch::Receiver<LettersState> {
        self.state.subscribe()
    }

    /// Opens the folder now, if there is one.
    pub(crate) async fn open_existing(&self) -> Result<(), Unavailable> {
        if DataFolder::exists(&self.dir) {
            self.opened().await?;
        }
        Ok(())
    }

    /// The data folder, where the journal needs it: because sources want one, or because there is one already.
    pub(crate) async fn data_for_journal(&self, wanted: bool) -> Result<Option<&DataFolder>, Unavailable> {
        if wanted {
            return Ok(Some(&self.opened().await?.data));
        }
        let data = self.opened.get().map(|opened| &opened.data);
        Ok(data.filter(|data| Journal::exists(&*data.folder())))
    }

    /// From now on the journal hears of its events that end here, and of those that are here already.
    pub(crate) fn follow(&self, journal: &Journal) {
        let _ = self.journal.set(journal.clone());
        if let Some(opened) = self.opened.get() {
            tokio::spawn(tell(opened.letters.clone(), journal.clone()));
        }
    }

    /// Keeps rejected requests in the folder, where it is open by now or they are wanted for themselves.
    pub(crate) async fn keep_rejected(&self, rejected: &Arc<Rejected>) -> Result<(), Unavailable> {
        let _ = self.rejected.set(Arc::clone(rejected));
        if rejected.is_wanted() {
            self.opened().await?;
        }
        if self.opened.get().is_some()
            && let Err(error) = rejected.keep()
        {
            tracing::warn!(%error, "rejected requests are not kept: their folder cannot be made");
        }
        Ok(())
    }

    /// Lets commands come in as soon as there is a folder to take them in.
    pub(crate) fn take_commands(&self, redrive: Arc<dyn Redrive>) {
        let _ = self.redrive.set(redrive);
        if let Some(opened) = self.opened.get() {
            self.listen(opened);
        }
    }

    /// Keeps a letter and waits until it is on disk.
    pub(crate) async fn keep(&self, letter: Letter) -> Result<u64, Unavailable> {
        let (event, sink, address) = (letter.event.clone(), Arc::clone(&letter.sink), letter.address.clone());
        let kept = self.put(letter).await;
        let state = match &kept {
            Ok(_) => LettersState::Ready,
            Err(Unavailable::NotKept(NotKept::Full(_))) => LettersState::Full,
            Err(_) => LettersState::Failing,
        };
        self.state.send_if_modified(|before| std::mem::replace(before, state) != state);
        let id = kept?;
        if let (Some(journal), Some(address)) = (self.journal.get(), address) {
            journal.give_up(&event, &sink, &address);
        }
        Ok(id)
    }

    async fn put(&self, letter: Letter) -> Result<u64, Unavailable> {
        Ok(self.opened().await?.letters.keep(letter).await?)
    }

    /// Takes no more commands.
    pub(crate) async fn stop(&self) {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(control) = control {
            control.stop().await;
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.opened.get().map_or(0, |opened| opened.letters.len())
    }

    /// What there is.
    #[cfg(test)]
    pub(crate) async fn list(&self) -> Vec<hookbus_journal::Summary> {
        let Some(opened) = self.opened.get() else { return Vec::new() };
        opened.letters.list(None, usize::MAX).await.unwrap().letters
    }

    async fn opened(&self) -> Result<&Opened, Unavailable> {
        let open = || async {
            let (dir, settings) = (self.dir.clone(), self.settings);
            let opening = tokio::task::spawn_blocking(move || open(&dir, settings));
            match tokio::time::timeout(OPEN, opening).await {
                Ok(Ok(opened)) => {
                    let (data, letters) = opened?;
                    Ok(Opened { letters, data })
                }
                Ok(Err(_)) | Err(_) => Err(Unavailable::Late),
            }
        };
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = self.opened.get_or_try_init(open).await?;
        self.listen(opened);
        Ok(opened)
    }

    fn listen(&self, opened: &Opened) {
        let Some(redrive) = self.redrive.get() else { return };
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if control.is_some() {
            return;
        }
        let kept = Kept {
            folder: opened.data.folder(),
            key: opened.data.key().clone(),
            journal: self.journal.get().cloned(),
            letters: Some(opened.letters.clone()),
        };
        let desk = Desk::new(opened.letters.clone(), Arc::clone(redrive)).with(kept);
        let desk = desk.with_rejected(self.rejected.get().cloned());
        match Control::start(opened.data.path(), desk) {
            Ok(started) => *control = Some(started),
            Err(error) => {
                tracing::warn!(%error, "no commands can be taken: the control socket cannot be made");
            }
        }
    }
}

/// Says that an event was given up.
pub(crate) fn log(letter: &Letter) {
    let (sink, source, id) = (&letter.sink, letter.event.source(), letter.event.id().as_str());
    let trace = letter.event.trace_id().map(tracing::field::display);
    tracing::warn!(%sink, source, id, trace, reason = %letter.reason, error = %letter.error, "dead letter");
}

/// Letters that are read at once.
const PAGE: usize = 256;

/// Tells the journal of the letters there are, so that their events are accepted again when they come again.
pub(crate) async fn tell(letters: DeadLetters, journal: Journal) {
    let mut after = None;
    while let Ok(page) = letters.list(after, PAGE).await {
        for summary in &page.letters {
            if let Ok(Some(Letter { event, sink, address: Some(address), .. })) =
                letters.get(summary.id).await
            {
                journal.give_up(&event, &sink, &address);
            }
        }
        if page.last.is_none() || page.last == after {
            return;
        }
        after = page.last;
    }
}

/// The store's settings for a quota: many files, so that each is gone soon after its letters.
pub(crate) fn settings(max_size: u64) -> LetterSettings {
    LetterSettings { max_size, segment_size: (max_size / 8).clamp(64 << 10, 16 << 20) }
}

/// Opens the folder and the letters in it, and says what is wrong with them. Blocks.
pub(crate) fn open(
    dir: &std::path::Path,
    settings: LetterSettings,
) -> Result<(DataFolder, DeadLetters), Unavailable> {
    let data = DataFolder::open(dir)?;
    let (letters, found) = DeadLetters::open(data.folder(), data.key().clone(), settings)?;
    if found.damaged > 0 {
        tracing::error!(damaged = found.damaged, "dead letters were damaged; the others are there");
    }
    if found.unfinished > 0 {
        tracing::warn!(bytes = found.unfinished, "the last dead letter was not written to its end");
    }
    Ok((data, letters))
}

impl fmt::Debug for LetterBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LetterBox({})", self.dir.display())
    }
}
