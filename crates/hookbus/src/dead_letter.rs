//! Events that no try can deliver: each a line with its reason, on disk before its sender hears 200.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use hookbus_core::{Address, EventTime, VerifiedEvent, units::ByteSize};
use serde_json::json;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::{
    append::{LineFile, private_folder},
    config,
};

/// Why an event ended here.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter {
    pub(crate) event: VerifiedEvent,
    pub(crate) sink: Arc<str>,
    /// Where it should have gone; nothing where no valid address could be rendered.
    pub(crate) address: Option<Address>,
    /// The kind of error in one word, such as `too-large`.
    pub(crate) reason: &'static str,
    /// The error for a person.
    pub(crate) error: String,
    pub(crate) attempts: u32,
}

/// Why a dead letter could not be kept; its event is then not accepted either.
#[derive(Clone, Debug, Error)]
pub(crate) enum NotKept {
    #[error("the dead letters have reached their `max-size` of {0}")]
    Full(ByteSize),
    #[error("cannot write the dead letters: {0}")]
    Io(#[from] Arc<io::Error>),
    #[error("the bridge is stopping")]
    Stopping,
}

/// The file of dead letters, with a quota. Writers that arrive while one waits for the disk share the next fsync.
pub(crate) struct DeadLetters {
    path: PathBuf,
    max_size: ByteSize,
    pending: Mutex<Vec<Waiting>>,
    file: Mutex<Option<LineFile>>,
}

struct Waiting {
    line: Vec<u8>,
    done: oneshot::Sender<Result<(), NotKept>>,
}

impl DeadLetters {
    /// The store at `[dead-letters]`. Nothing is made on disk before the first dead letter.
    pub(crate) fn new(config: &config::DeadLetters) -> Self {
        let path = config.dir.join("dead-letters.ndjson");
        Self { path, max_size: config.max_size, pending: Mutex::default(), file: Mutex::default() }
    }

    /// Writes a dead letter and waits until it is on disk.
    pub(crate) async fn keep(self: &Arc<Self>, letter: &DeadLetter) -> Result<(), NotKept> {
        let (done, kept) = oneshot::channel();
        lock(&self.pending).push(Waiting { line: line(letter), done });
        let store = Arc::clone(self);
        // Whoever gets the file first writes all that is pending by then; the others find nothing left to do.
        tokio::task::spawn_blocking(move || store.write_pending());
        kept.await.unwrap_or(Err(NotKept::Stopping))
    }

    fn write_pending(&self) {
        let mut file = lock(&self.file);
        let waiting = std::mem::take(&mut *lock(&self.pending));
        if waiting.is_empty() {
            return;
        }
        let lines: Vec<u8> = waiting.iter().flat_map(|waiting| &waiting.line).copied().collect();
        let result = self.write(&mut file, &lines);
        if let Err(error) = &result {
            tracing::error!(path = %self.path.display(), %error, "dead letters could not be kept");
        }
        for waiting in waiting {
            // Nobody waits any more where the client has gone; the line counts all the same.
            let _ = waiting.done.send(result.clone());
        }
    }

    fn write(&self, file: &mut Option<LineFile>, lines: &[u8]) -> Result<(), NotKept> {
        let open = match file.take().filter(LineFile::is_current) {
            Some(open) => open,
            None => self.open().map_err(Arc::new)?,
        };
        let open = file.insert(open);
        if open.len().map_err(Arc::new)? + lines.len() as u64 > self.max_size.get() {
            return Err(NotKept::Full(self.max_size));
        }
        open.append(lines).map_err(Arc::new)?;
        Ok(())
    }

    fn open(&self) -> io::Result<LineFile> {
        if let Some(folder) = self.path.parent() {
            private_folder(folder)?;
        }
        LineFile::open(&self.path)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line of JSON: why, where to, and the event in structured form.
fn line(letter: &DeadLetter) -> Vec<u8> {
    let address = letter.address.as_ref().map(|address| address.iter().collect::<BTreeMap<_, _>>());
    let head = json!({
        "time": EventTime::from(SystemTime::now()).to_string(),
        "sink": &*letter.sink,
        "address": address,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
    });
    let mut line = head.to_string().into_bytes();
    line.pop();
    line.extend_from_slice(b",\"event\":");
    letter.event.write_structured(&mut line);
    line.pop();
    line.extend_from_slice(b"}\n");
    line
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadLetters({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use hookbus_testkit::event;

    use super::*;

    fn letter(body: &'static str) -> DeadLetter {
        let (event, sink) = (event("fastpix", body), "bus".into());
        DeadLetter {
            event,
            sink,
            address: None,
            reason: "too-large",
            error: "no \"room\"".into(),
            attempts: 1,
        }
    }

    fn store(folder: &std::path::Path, max_size: u64) -> Arc<DeadLetters> {
        let dir = folder.join("data");
        Arc::new(DeadLetters::new(&config::DeadLetters { dir, max_size: ByteSize::from_bytes(max_size) }))
    }

    #[tokio::test]
    async fn a_letter_is_one_line_with_its_reason_and_event() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 1 << 20);
        let letters = [letter("{\"id\":\"1\"}"), letter("not json")];
        let (first, second) = tokio::join!(store.keep(&letters[0]), store.keep(&letters[1]));
        first.unwrap();
        second.unwrap();
        let text = std::fs::read_to_string(&store.path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["reason"], "too-large");
        assert_eq!(lines[0]["error"], "no \"room\"");
        assert_eq!(lines[0]["event"]["data"]["id"], "1");
        assert!(lines[1]["event"]["data_base64"].is_string());
    }

    #[tokio::test]
    async fn at_the_quota_nothing_more_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 1_000);
        let outcomes = [
            store.keep(&letter("{}")).await,
            store.keep(&letter("{}")).await,
            store.keep(&letter("{}")).await,
            store.keep(&letter("{}")).await,
        ];
        assert!(outcomes[0].is_ok());
        assert!(matches!(outcomes[3], Err(NotKept::Full(_))));
        assert!(std::fs::metadata(&store.path).unwrap().len() <= 1_000);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), "a file is in the way").unwrap();
        let store = store(folder.path(), 1 << 20);
        assert!(matches!(store.keep(&letter("{}")).await, Err(NotKept::Io(_))));
    }
}
