//! The socket of a running bridge: one request, its answer, closed.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};

use super::{Command, Desk, REPLIES, Reply, SOCKET};

/// Bytes of a request.
const MAX_REQUEST: u64 = 256 << 10;
/// Connections at once.
const CONNECTIONS: usize = 8;
/// How long a request may take to arrive.
const READ: Duration = Duration::from_secs(5);
/// How long a line of an answer may take to leave.
const WRITE: Duration = Duration::from_secs(30);

/// Listens until it is stopped.
pub(crate) struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Control {
    /// Listens in a data folder that is locked by us: a socket that is there has been left behind.
    pub(crate) fn start(folder: &Path, desk: Desk) -> io::Result<Self> {
        let path = folder.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { path, task: tokio::spawn(listen(listener, desk)) })
    }

    /// Listens no more; what is under way is dropped.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // The lock is still ours, so this is our socket. One that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

async fn listen(listener: UnixListener, desk: Desk) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut under_way = tokio::task::JoinSet::new();
    loop {
        while under_way.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = desk.clone();
                under_way.spawn(async move {
                    if let Err(error) = serve(stream, &desk).await {
                        tracing::debug!(%error, "a command was not answered");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket accepts nothing for a moment");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    timeout(READ, BufReader::new(read.take(MAX_REQUEST)).read_line(&mut line)).await??;
    let command = match line.ends_with('\n') {
        true => serde_json::from_str::<Command>(&line).map_err(|error| error.to_string()),
        false => Err(format!("a request is one line of at most {MAX_REQUEST} bytes")),
    };
    let (replies, mut answer) = mpsc::channel(REPLIES);
    let answering = async move {
        match command {
            Ok(command) => desk.answer(command, &replies).await,
            Err(wrong) => drop(replies.send(Reply::Error(wrong)).await),
        }
    };
    // Ends with an error where the reader is gone, and takes the receiver along: then the answer ends too.
    let writing = async move {
        while let Some(reply) = answer.recv().await {
            let mut line = serde_json::to_vec(&reply)?;
            line.push(b'\n');
            timeout(WRITE, write.write_all(&line)).await??;
        }
        timeout(WRITE, write.shutdown()).await?
    };
    let ((), written) = tokio::join!(answering, writing);
    written
}
