//! Asking: the folder itself, or the bridge that has it.

use std::{io, path::Path, sync::Arc, time::Duration};

use hookbus_journal::{DataFolder, LetterSettings, OpenError};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::mpsc,
    time::timeout,
};

use super::{Command, Desk, REPLIES, Replies, Reply, SOCKET, redrive::NoBridge};
use crate::dead_letters::{self, Unavailable};

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

/// Gives a command and returns where the answer comes out. A folder that is not there has nothing in it.
pub(crate) async fn ask(
    dir: &Path,
    settings: LetterSettings,
    command: Command,
) -> Result<mpsc::Receiver<Reply>, NotAsked> {
    let (replies, answer) = mpsc::channel(REPLIES);
    if !DataFolder::exists(dir) {
        let _ = replies.try_send(Reply::Done { done: 0, failed: 0 });
        return Ok(answer);
    }
    let path = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || dead_letters::open(&path, settings)).await;
    match opened.map_err(|_| NotAsked::Stopped)? {
        Ok((data, letters)) => {
            tokio::spawn(async move {
                Desk::new(letters, Arc::new(NoBridge)).answer(command, &replies).await;
                drop(data);
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

async fn pass_on(stream: UnixStream, replies: &Replies) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = timeout(READ, lines.next_line()).await?? {
        if replies.send(serde_json::from_str(&line)?).await.is_err() {
            break;
        }
    }
    Ok(())
}
