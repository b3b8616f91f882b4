//! `file`: one structured CloudEvent a line, fsynced before it counts as delivered.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use hookbus_core::{
    Batch, Capabilities, ErrorKind, Instant, Outcome, Position, Probe, Report, Sink, SinkContext, SinkError,
    SinkPlugin, sink::AddressKey,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::append::{LineFile, private_folder};

/// Files kept open at once; the one used longest ago is closed first.
const MAX_OPEN: usize = 64;

/// The plugin of type `file`.
#[derive(Debug)]
pub struct File;

/// Configuration of a `file` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "file")]
pub struct FileConfig {
    /// The folder its paths stand in, made with mode 0700 where it is missing. Relative to the
    /// configuration file. Default: the folder that file is in.
    #[serde(default = "default_dir")]
    pub dir: PathBuf,
}

fn default_dir() -> PathBuf {
    ".".into()
}

impl SinkPlugin for File {
    const TYPE: &'static str = "file";
    const ADDRESS: &'static [AddressKey] =
        &[AddressKey::required("path").or("events.ndjson").checked(check_path)];
    type Config = FileConfig;

    async fn connect(config: FileConfig, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        let dir = context.base.join(config.dir);
        let made = private_folder(&dir).map_err(|error| classify("open", &dir, error));
        made.map(|()| Box::new(FileSink::new(dir)) as Box<dyn Sink>)
    }
}

/// A path below the sink's folder, whatever an event renders into it.
fn check_path(path: &str) -> Result<(), String> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain {
        return Err("must stay below the sink's `dir`: relative, without `.` and `..`".into());
    }
    if path.ends_with('/') {
        return Err("names a folder, not a file".into());
    }
    if path.split('/').any(|part| part.len() > 255) {
        return Err("has a part longer than 255 bytes".into());
    }
    Ok(())
}

#[derive(Debug)]
struct FileSink {
    dir: PathBuf,
    open: Arc<Mutex<OpenFiles>>,
}

/// Open files with the turn each was last used in.
#[derive(Debug, Default)]
struct OpenFiles {
    files: HashMap<PathBuf, (LineFile, u64)>,
    turn: u64,
}

/// The lines for one file: the places in the batch, the bytes, and where each line begins in them.
#[derive(Default)]
struct Lines {
    events: Vec<usize>,
    starts: Vec<usize>,
    bytes: Vec<u8>,
}

impl FileSink {
    fn new(dir: PathBuf) -> Self {
        Self { dir, open: Arc::default() }
    }
}

impl OpenFiles {
    fn append(&mut self, path: &Path, lines: &[u8]) -> io::Result<u64> {
        self.turn += 1;
        if !self.files.contains_key(path) {
            if let Some(folder) = path.parent() {
                private_folder(folder)?;
            }
            if self.files.len() >= MAX_OPEN {
                let oldest =
                    self.files.iter().min_by_key(|(_, (_, turn))| *turn).map(|(path, _)| path.clone());
                oldest.map(|path| self.files.remove(&path));
            }
            self.files.insert(path.to_owned(), (LineFile::open(path)?, self.turn));
        }
        let Some((file, turn)) = self.files.get_mut(path) else {
            return Err(io::Error::other("the file was closed"));
        };
        *turn = self.turn;
        let written = file.append(lines);
        if file.failed() {
            self.files.remove(path);
        }
        written
    }
}

#[async_trait]
impl Sink for FileSink {
    fn capabilities(&self) -> Capabilities {
        // One call at a time: what arrives meanwhile shares the next fsync.
        Capabilities::new().max_batch(4096).max_batch_bytes(8 << 20).accepts_prefix()
    }

    async fn publish(&self, batch: &Batch, report: &Report, _: Instant) {
        let mut by_path: BTreeMap<&str, Lines> = BTreeMap::new();
        for (at, envelope) in batch.iter().enumerate() {
            // Invariant: `path` is required, so every address has it.
            let lines = by_path.entry(envelope.address.get("path").unwrap_or("events.ndjson")).or_default();
            lines.events.push(at);
            lines.starts.push(lines.bytes.len());
            envelope.event.write_structured(&mut lines.bytes);
        }
        for (path, lines) in by_path {
            let (open, path) = (Arc::clone(&self.open), self.dir.join(path));
            let (shown, Lines { events, starts, bytes }) = (path.clone(), lines);
            let written = tokio::task::spawn_blocking(move || {
                open.lock().unwrap_or_else(PoisonError::into_inner).append(&path, &bytes)
            });
            match written.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                Ok(base) => {
                    for (at, start) in events.iter().zip(starts) {
                        let position = Position::new(format!("{}@{}", shown.display(), base + start as u64));
                        report.set(*at, Outcome::delivered(position));
                    }
                }
                Err(error) => {
                    // Cut off again where possible; after a failed fsync nobody knows what is on disk.
                    let error = classify("write", &shown, error);
                    events.iter().for_each(|at| report.set(*at, Outcome::maybe_delivered(error.clone())));
                }
            }
        }
    }

    async fn probe(&self, target: Probe<'_>, _: Instant) -> Result<(), SinkError> {
        let path = match target {
            Probe::Sink => self.dir.clone(),
            Probe::Address(address) => self.dir.join(address.get("path").unwrap_or_default()),
        };
        let (open, appended) = (Arc::clone(&self.open), path.clone());
        let probed = tokio::task::spawn_blocking(move || {
            if appended.is_dir() || !appended.exists() {
                return private_folder(appended.parent().unwrap_or(&appended));
            }
            open.lock().unwrap_or_else(PoisonError::into_inner).append(&appended, b"").map(|_| ())
        });
        probed
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            .map_err(|error| classify("probe", &path, error))
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).files.clear();
        Ok(())
    }
}

/// What an I/O error means for a file.
fn classify(operation: &'static str, path: &Path, error: io::Error) -> SinkError {
    let kind = match error.kind() {
        // The disk may get room again; until then nothing can be written anywhere on it.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Overloaded,
        // This path alone cannot be written, others can.
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::NotFound => ErrorKind::Unroutable,
        io::ErrorKind::FileTooLarge => ErrorKind::Unroutable,
        _ => ErrorKind::Unavailable,
    };
    SinkError::new(kind, operation, path.display().to_string()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_folder() {
        for path in ["events.ndjson", "a/b/c.ndjson", "a b"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in ["/etc/passwd", "../x", "a/../../x", "a/..", ".", "./a", "a/", &"x".repeat(300)] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn errors_are_told_apart_by_what_they_stop() {
        let kind = |kind: io::ErrorKind| classify("write", Path::new("x"), kind.into()).kind();
        assert_eq!(kind(io::ErrorKind::StorageFull), ErrorKind::Overloaded);
        assert_eq!(kind(io::ErrorKind::PermissionDenied), ErrorKind::Unroutable);
        assert_eq!(kind(io::ErrorKind::IsADirectory), ErrorKind::Unroutable);
        assert_eq!(kind(io::ErrorKind::ReadOnlyFilesystem), ErrorKind::Unavailable);
        assert_eq!(kind(io::ErrorKind::Other), ErrorKind::Unavailable);
    }
}
