//! Asking: the folder itself, or the bridge that has it.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hookbus_core::{Router, route::Unaddressable};
use hookbus_journal::{DataFolder, DeadLetters, Journal, LetterSettings, OpenError};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::mpsc,
    time::timeout,
};

use super::{
    ByJournal, Command, Desk, Kept, OnLetters, REPLIES, Replies, Reply, SOCKET, Stopped, Today, end,
    redrive::NoBridge, rejected,
};
use crate::{
    StartError,
    config::{Ack, Config, redactions},
    dead_letters::{self, Unavailable},
    journal::{Opening, RunningJournal},
    rejected::Known,
};

/// How long the bridge may take for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take for the next line.
const READ: Duration = Duration::from_secs(120);

/// A command could not be given.
#[derive(Debug, Error)]
pub(crate) enum NotAsked {
    /// Another process has the folder and takes no commands.
    #[error("{in_use}, and it does not answer: {source}")]
    InUse { in_use: OpenError, source: io::Error },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("the folder could not be read")]
    Stopped,
}

/// Where to ask, and what is needed where nobody is there to ask.
pub(crate) struct Place {
    dir: PathBuf,
    letters: LetterSettings,
    journal: Option<ForRedrive>,
    rejected: Option<Arc<Known>>,
}

/// A journal that may be opened to redrive into.
struct ForRedrive {
    opening: Opening,
    today: Today,
    /// Some source wants a journal, so there may be one from now on.
    wanted: bool,
}

impl Place {
    pub(crate) fn of(config: &Config) -> Result<Self, Unaddressable> {
        let sources = config.sources.iter().map(|source| Arc::clone(&source.name));
        let router = Router::new(sources, &config.routes)?.redacting(redactions(&config.sources));
        let journal = ForRedrive {
            opening: Opening::new(config),
            today: Today { sinks: config.sinks.iter().map(|sink| Arc::clone(&sink.name)).collect(), router },
            wanted: config.sources.iter().any(|source| source.ack == Ack::Journal),
        };
        let letters = dead_letters::settings(config.dead_letters.max_size.get());
        Ok(Self {
            dir: config.journal.dir.clone(),
            letters,
            journal: Some(journal),
            rejected: Some(Arc::new(Known::new(config))),
        })
    }

    /// A folder alone.
    #[cfg(test)]
    pub(super) fn folder(dir: &std::path::Path, letters: LetterSettings) -> Self {
        Self { dir: dir.to_owned(), letters, journal: None, rejected: None }
    }
}

/// Gives a command and returns where the answer comes out. A folder that is not there has nothing in it.
pub(crate) async fn ask(place: Place, command: Command) -> Result<mpsc::Receiver<Reply>, NotAsked> {
    let (replies, answer) = mpsc::channel(REPLIES);
    let Place { dir, letters: settings, journal, rejected } = place;
    if !DataFolder::exists(&dir) {
        let _ = replies.try_send(Reply::Done { done: 0, failed: 0 });
        return Ok(answer);
    }
    let (path, wants_letters) = (dir.clone(), matches!(command, Command::DeadLetters(_)));
    let opened = tokio::task::spawn_blocking(move || match wants_letters {
        true => dead_letters::open(&path, settings).map(|(data, letters)| (data, Some(letters))),
        // Opening the letters tidies them up, and who asks of the journal changes nothing.
        false => Ok((DataFolder::open(&path)?, None)),
    });
    match opened.await.map_err(|_| NotAsked::Stopped)? {
        Ok((data, letters)) => {
            tokio::spawn(async move {
                if let (Command::Rejected(command), Some(known)) = (&command, rejected) {
                    end(rejected::answer(known, command.clone(), &replies).await, &replies).await;
                    return drop((data, replies));
                }
                answer_alone(&data, letters, journal, command, &replies).await;
                // Whoever waits for the end of the answers may open the folder then.
                drop((data, replies));
            });
        }
        Err(Unavailable::Folder(in_use @ OpenError::InUse(_))) => {
            let request = serde_json::to_vec(&command).map_err(io::Error::other);
            let connected = async {
                let mut stream = UnixStream::connect(dir.join(SOCKET)).await?;
                let mut line = request?;
                line.push(b'\n');
                stream.write_all(&line).await?;
                io::Result::Ok(stream)
            };
            let connected = timeout(CONNECT, connected).await.unwrap_or_else(|late| Err(late.into()));
            let stream = connected.map_err(|source| NotAsked::InUse { in_use, source })?;
            tokio::spawn(async move {
                if let Err(error) = pass_on(stream, &replies).await {
                    let _ = replies.send(Reply::Error(format!("the bridge went away: {error}"))).await;
                }
            });
        }
        Err(other) => return Err(other.into()),
    }
    Ok(answer)
}

/// Answers from a folder that nobody else has.
async fn answer_alone(
    data: &DataFolder,
    letters: Option<DeadLetters>,
    journal: Option<ForRedrive>,
    command: Command,
    replies: &Replies,
) {
    let redactions = journal.as_ref().map(|journal| journal.today.router.redactions().clone());
    let no_bridge = || Arc::new(NoBridge(redactions.clone().unwrap_or_default()));
    let kept = || Kept { folder: data.folder(), key: data.key().clone(), journal: None, letters: None };
    match (command, letters) {
        (Command::Journal(command), _) => end(kept().answer(command, replies).await, replies).await,
        (command @ Command::DeadLetters(OnLetters::Redrive { .. }), Some(letters)) => {
            let opened = match journal {
                Some(journal) => journal.open(data, &letters).await,
                None => Ok(None),
            };
            match opened {
                Ok(Some((running, redrive))) => {
                    Desk::new(letters, Arc::new(redrive)).answer(command, replies).await;
                    running.stop().await;
                }
                Ok(None) => Desk::new(letters, no_bridge()).answer(command, replies).await,
                Err(error) => end(Err(Stopped::from(error)), replies).await,
            }
        }
        (command, Some(letters)) => Desk::new(letters, no_bridge()).answer(command, replies).await,
        (Command::DeadLetters(_) | Command::Rejected(_), None) => end(Err(Stopped::gone()), replies).await,
    }
}

impl ForRedrive {
    /// Opens the journal; not where none is wanted and none is there.
    async fn open(
        self,
        data: &DataFolder,
        letters: &DeadLetters,
    ) -> Result<Option<(RunningJournal, ByJournal)>, StartError> {
        let Self { opening, today, wanted } = self;
        if !wanted && !Journal::exists(&*data.folder()) {
            return Ok(None);
        }
        let running = opening.alone(data).await?;
        let journal = running.journal.clone();
        // Else it knows their events, and takes none of them again.
        dead_letters::tell(letters.clone(), journal.clone()).await;
        Ok(Some((running, ByJournal { journal, today: Arc::new(ArcSwap::from_pointee(today)) })))
    }
}

async fn pass_on(stream: UnixStream, replies: &Replies) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = timeout(READ, lines.next_line()).await?? {
        if replies.send(serde_json::from_str(&line)?).await.is_err() {
            break;
        }
    }
    Ok(())
}
