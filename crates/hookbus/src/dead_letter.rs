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

/// Bytes of dead letters that may wait for the disk.
const MAX_PENDING: usize = 16 << 20;

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

impl DeadLetter {
    /// Says that the event ends here.
    pub(crate) fn log(&self) {
        let Self { event, sink, reason, error, .. } = self;
        tracing::warn!(%sink, source = event.source(), id = event.id().as_str(), reason, %error, "dead letter");
    }
}

/// Why a dead letter could not be kept; its event is then not accepted either.
#[derive(Clone, Debug, Error)]
pub(crate) enum NotKept {
    #[error("the dead letters have reached their `max-size` of {0}")]
    Full(ByteSize),
    #[error("cannot write the dead letters: {0}")]
    Io(#[from] Arc<io::Error>),
    #[error("the disk does not keep up with the dead letters")]
    Slow,
    #[error("the bridge is stopping")]
    Stopping,
}

/// The file of dead letters, with a quota. Writers that arrive while one waits for the disk share the next fsync.
pub(crate) struct DeadLetters {
    path: PathBuf,
    max_size: ByteSize,
    pending: Mutex<Pending>,
    file: Mutex<Option<LineFile>>,
}

/// What waits for the disk.
#[derive(Default)]
struct Pending {
    waiting: Vec<Waiting>,
    bytes: usize,
    /// A thread is writing, and will look here again when it is done.
    writing: bool,
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
        let begin = {
            let line = line(letter);
            let mut pending = lock(&self.pending);
            if pending.bytes + line.len() > MAX_PENDING {
                return Err(NotKept::Slow);
            }
            pending.bytes += line.len();
            pending.waiting.push(Waiting { line, done });
            !std::mem::replace(&mut pending.writing, true)
        };
        if begin {
            // One thread, however many wait: a disk that hangs must not take all threads that may block.
            let store = Arc::clone(self);
            tokio::task::spawn_blocking(move || store.write_pending());
        }
        kept.await.unwrap_or(Err(NotKept::Stopping))
    }

    /// Writes groups of whatever waits, until nothing does.
    fn write_pending(&self) {
        loop {
            let group = {
                let mut pending = lock(&self.pending);
                pending.bytes = 0;
                pending.writing = !pending.waiting.is_empty();
                std::mem::take(&mut pending.waiting)
            };
            if group.is_empty() {
                return;
            }
            self.write(group);
        }
    }

    /// Writes a group with one fsync and tells each of it. Lines that the quota has no room for are left out.
    fn write(&self, group: Vec<Waiting>) {
        let mut file = lock(&self.file);
        let (fitting, left_out, result) = match self.append(&mut file, &group) {
            Ok(fitting) => (fitting, group.len() - fitting, Ok(())),
            Err(error) => (group.len(), 0, Err(NotKept::Io(Arc::new(error)))),
        };
        if let Err(error) = &result {
            tracing::error!(path = %self.path.display(), %error, "dead letters could not be kept");
        }
        if left_out > 0 {
            tracing::error!(path = %self.path.display(), left_out, "the dead letters have reached their max-size");
        }
        for (at, waiting) in group.into_iter().enumerate() {
            let full = Err(NotKept::Full(self.max_size));
            // Nobody waits any more where the request is over; the line counts all the same.
            let _ = waiting.done.send(if at < fitting { result.clone() } else { full });
        }
    }

    /// Appends as many lines of a group as the quota has room for, and returns how many.
    fn append(&self, file: &mut Option<LineFile>, group: &[Waiting]) -> io::Result<usize> {
        let open = match file.take().filter(LineFile::is_current) {
            Some(open) => open,
            None => self.open()?,
        };
        let open = file.insert(open);
        let room = usize::try_from(self.max_size.get().saturating_sub(open.len()?)).unwrap_or(usize::MAX);
        let mut lines = Vec::new();
        let mut fitting = 0;
        for waiting in group {
            if lines.len() + waiting.line.len() > room {
                break;
            }
            lines.extend_from_slice(&waiting.line);
            fitting += 1;
        }
        if fitting > 0 {
            open.append(&lines)?;
        }
        Ok(fitting)
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
