//! `file`: one structured CloudEvent a line, fsynced before it counts as delivered.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use hookbus_core::{
    Batch, Capabilities, ErrorKind, Format, Instant, Outcome, Position, Probe, Report, Sink, SinkContext,
    SinkError, SinkPlugin, sink::AddressKey,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{closed::Closed, single::Single};
use crate::append::{LineFile, private_folder};

/// The file of a route that names none.
const DEFAULT_PATH: &str = "events.ndjson";
/// Locked while a sink uses its folder.
const LOCK: &str = ".hookbus.lock";
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
    /// configuration file. Default: `events`.
    #[serde(default = "default_dir")]
    pub dir: PathBuf,
}

fn default_dir() -> PathBuf {
    "events".into()
}

impl SinkPlugin for File {
    const TYPE: &'static str = "file";
    const FORMATS: &'static [Format] = &[Format::Structured];
    const ADDRESS: &'static [AddressKey] =
        &[AddressKey::required("path").or(DEFAULT_PATH).checked(check_path)];
    type Config = FileConfig;

    fn claims(config: &FileConfig) -> Option<String> {
        Some(format!("the folder {}", config.dir.display()))
    }

    async fn connect(config: FileConfig, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        let dir = context.base.join(config.dir);
        let lock =
            private_folder(&dir).and_then(|()| lock(&dir)).map_err(|error| classify("open", &dir, error))?;
        Ok(Box::new(FileSink::new(dir, lock)))
    }
}

/// Takes the folder for this sink, as long as the returned file is open: of two bridges in one folder the second must
/// not start, instead of refusing every event.
fn lock(dir: &Path) -> io::Result<fs::File> {
    let lock =
        fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK))?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::ResourceBusy, "the folder is in use by another bridge")
        }
        fs::TryLockError::Error(error) => error,
    })?;
    Ok(lock)
}

/// A path below the sink's folder, whatever an event renders into it.
fn check_path(path: &str) -> Result<(), String> {
    // By its text, not by what it leads to: one file has one address, and so one order.
    if path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("must stay below the sink's `dir`: relative, without empty parts, `.` and `..`".into());
    }
    if path == LOCK {
        return Err("is the name of this sink's lock".into());
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
    writer: Single,
    closed: Closed,
    _lock: fs::File,
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
    path: PathBuf,
    events: Vec<usize>,
    starts: Vec<usize>,
    bytes: Vec<u8>,
}

impl FileSink {
    fn new(dir: PathBuf, lock: fs::File) -> Self {
        Self { dir, open: Arc::default(), writer: Single::new(), closed: Closed::default(), _lock: lock }
    }

    /// The lines of a batch, by file.
    fn lines(&self, batch: &Batch) -> Vec<Lines> {
        let mut by_path: BTreeMap<&str, Lines> = BTreeMap::new();
        for (at, envelope) in batch.iter().enumerate() {
            // Invariant: `path` is required, so every address has it.
            let lines = by_path.entry(envelope.address.get("path").unwrap_or(DEFAULT_PATH)).or_default();
            lines.events.push(at);
            lines.starts.push(lines.bytes.len());
            envelope.event.write_structured(&mut lines.bytes);
        }
        by_path.into_iter().map(|(path, lines)| Lines { path: self.dir.join(path), ..lines }).collect()
    }
}

impl OpenFiles {
    fn append(&mut self, path: &Path, lines: &[u8]) -> io::Result<u64> {
        self.turn += 1;
        // What was moved or removed by somebody is opened anew: lines written to it would be lost.
        let (mut file, _) = match self.files.remove(path).filter(|(file, _)| file.is_current()) {
            Some(open) => open,
            None => {
                if let Some(folder) = path.parent() {
                    private_folder(folder)?;
                }
                if self.files.len() >= MAX_OPEN {
                    let oldest =
                        self.files.iter().min_by_key(|(_, (_, turn))| *turn).map(|(path, _)| path.clone());
                    oldest.map(|path| self.files.remove(&path));
                }
                (LineFile::open(path)?, self.turn)
            }
        };
        let written = file.append(lines);
        self.files.insert(path.to_owned(), (file, self.turn));
        written
    }
}

#[async_trait]
impl Sink for FileSink {
    fn capabilities(&self) -> Capabilities {
        // One call at a time: what arrives meanwhile shares the next fsync.
        Capabilities::new().max_batch(4096).max_batch_bytes(8 << 20).accepts_prefix()
    }

    async fn publish(&self, batch: &Batch, report: &Report, deadline: Instant) {
        if let Err(closed) = self.closed.check() {
            return report.set_rest(&Outcome::retry(closed));
        }
        let (open, files) = (Arc::clone(&self.open), self.lines(batch));
        let write = move || {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let write = |lines: Lines| (open.append(&lines.path, &lines.bytes), lines);
            files.into_iter().map(write).collect::<Vec<_>>()
        };
        let written = match self.writer.run("write", deadline, write).await {
            Ok(written) => written,
            Err(not_begun) if not_begun.kind() == ErrorKind::Unavailable => {
                return report.set_rest(&Outcome::retry(not_begun));
            }
            Err(cut) => return report.set_rest(&Outcome::maybe_delivered(cut)),
        };
        for (result, Lines { path, events, starts, .. }) in written {
            match result {
                Ok(base) => {
                    for (at, start) in events.iter().zip(starts) {
                        let position = Position::new(format!("{}@{}", path.display(), base + start as u64));
                        report.set(*at, Outcome::delivered(position));
                    }
                }
                Err(error) => {
                    // Cut off again where possible; after a failed fsync nobody knows what is on disk.
                    let error = classify("write", &path, error);
                    events.iter().for_each(|at| report.set(*at, Outcome::maybe_delivered(error.clone())));
                }
            }
        }
    }

    async fn probe(&self, target: Probe<'_>, deadline: Instant) -> Result<(), SinkError> {
        self.closed.check()?;
        let (open, dir) = (Arc::clone(&self.open), self.dir.clone());
        let path = match target {
            Probe::Sink => None,
            Probe::Address(address) => Some(self.dir.join(address.get("path").unwrap_or(DEFAULT_PATH))),
        };
        let shown = path.clone().unwrap_or_else(|| dir.clone());
        let probe = move || match path {
            None => private_folder(&dir),
            // Opens the file as a publish would, and writes nothing.
            Some(path) => open.lock().unwrap_or_else(PoisonError::into_inner).append(&path, b"").map(|_| ()),
        };
        self.writer.run("probe", deadline, probe).await?.map_err(|error| classify("probe", &shown, error))
    }

    async fn close(&self, _: Instant) -> Result<(), SinkError> {
        self.closed.close();
        // A write that hangs holds them; they are closed with the process then.
        if let Ok(mut open) = self.open.try_lock() {
            open.files.clear();
        }
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
        | io::ErrorKind::ResourceBusy
        | io::ErrorKind::FileTooLarge
        | io::ErrorKind::NotFound => ErrorKind::Unroutable,
        _ => ErrorKind::Unavailable,
    };
    SinkError::new(kind, operation, path.display().to_string()).with_source(error)
}

#[cfg(test)]
mod tests {
    use hookbus_core::{
        Address, Envelope, Router,
        route::{Route, Target},
    };
    use hookbus_testkit::event;

    use super::*;

    #[test]
    fn paths_stay_below_the_folder() {
        for path in ["events.ndjson", "a/b/c.ndjson", "a b"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in [
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/..",
            ".",
            "./a",
            "a/",
            "a//b",
            "a/./b",
            "a/.",
            &"x".repeat(300),
        ] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    /// Addresses come out of routers only.
    fn address(path: &str) -> Address {
        let to = vec![Target::new(0, vec![(File::ADDRESS[0], path.parse().unwrap())])];
        let route = Route { name: "all".into(), sources: vec![], types: vec![], to };
        let router = Router::new([Arc::from("fastpix")], &[route]).unwrap();
        router.route(&event("fastpix", "{}")).destinations[0].address.clone()
    }

    async fn sink(dir: &Path) -> Result<Box<dyn Sink>, SinkError> {
        File::connect(FileConfig { dir: dir.into() }, SinkContext::new("files", "")).await
    }

    #[tokio::test]
    async fn one_bad_path_costs_the_others_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bad")).unwrap();
        let sink = sink(folder.path()).await.unwrap();
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let envelopes = ["bad", "good"].map(|path| Envelope::new(event("fastpix", "{}"), address(path)));
        let (batch, bad) = (Batch::new(envelopes), address("bad"));
        for _ in 0..20 {
            // A probe of the bad one at the same time: they take turns.
            let report = Report::new(2);
            let probe = sink.probe(Probe::Address(&bad), deadline);
            let (probed, ()) = tokio::join!(probe, sink.publish(&batch, &report, deadline));
            assert_eq!(probed.unwrap_err().kind(), ErrorKind::Unroutable);
            let Some(Outcome::Retry { error, .. }) = report.get(0) else { panic!("{report:?}") };
            assert_eq!(error.kind(), ErrorKind::Unroutable);
            assert!(matches!(report.get(1), Some(Outcome::Delivered { .. })), "{report:?}");
        }
    }

    #[tokio::test]
    async fn a_folder_has_one_sink() {
        let folder = tempfile::tempdir().unwrap();
        let first = sink(folder.path()).await.unwrap();
        assert!(sink(folder.path()).await.unwrap_err().to_string().contains("in use by another bridge"));
        drop(first);
        assert!(sink(folder.path()).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_that_was_removed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut open = OpenFiles::default();
        let path = folder.path().join("a/events.ndjson");
        open.append(&path, b"one\n").unwrap();
        std::fs::remove_dir_all(folder.path().join("a")).unwrap();
        open.append(&path, b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
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
