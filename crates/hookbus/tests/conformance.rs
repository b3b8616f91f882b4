//! The embedded sinks keep the contract of sinks: the conformance kit, on `memory` and `file`.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    fs, io,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use hookbus::{
    core::{Address, Sink},
    sinks::{File, Memory, MemorySink},
};
use hookbus_testkit::{Fixture, Observed, Skip, address, async_trait, sink_conformance};

struct MemoryFixture(MemorySink);

#[async_trait]
impl Fixture for MemoryFixture {
    type Plugin = Memory;

    async fn start() -> Result<Self, Skip> {
        Ok(Self(MemorySink::new(10_000)))
    }

    fn config(&self) -> String {
        "keep = 10000\n".into()
    }

    // Not one that was connected by its configuration: nobody could read that.
    async fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.0.clone())
    }

    async fn address(&self, n: usize) -> Address {
        address::<Memory>(&[("topic", &format!("topic-{n}"))])
    }

    async fn read(&self, address: &Address) -> Vec<Observed> {
        let kept = self.0.events().into_iter().filter(|kept| kept.address == *address);
        kept.map(|kept| Observed::of(&kept.event)).collect()
    }
}

sink_conformance!(memory: MemoryFixture);

struct FileFixture {
    folder: tempfile::TempDir,
    missing: AtomicUsize,
}

impl FileFixture {
    fn path(&self, address: &Address) -> PathBuf {
        self.folder.path().join("events").join(address.get("path").unwrap())
    }
}

#[async_trait]
impl Fixture for FileFixture {
    type Plugin = File;

    async fn start() -> Result<Self, Skip> {
        Ok(Self { folder: tempfile::tempdir().unwrap(), missing: AtomicUsize::new(0) })
    }

    fn config(&self) -> String {
        format!("dir = '{}'\n", self.folder.path().join("events").display())
    }

    async fn address(&self, n: usize) -> Address {
        address::<File>(&[("path", &format!("folder-{n}/events.ndjson"))])
    }

    async fn read(&self, address: &Address) -> Vec<Observed> {
        let lines = match fs::read(self.path(address)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            lines => lines.unwrap(),
        };
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| Observed::from_structured(line).unwrap()).collect()
    }

    /// A folder stands where the file should be.
    async fn missing(&self) -> Result<Address, Skip> {
        let path = format!("missing-{}", self.missing.fetch_add(1, Relaxed));
        let address = address::<File>(&[("path", &path)]);
        fs::create_dir_all(self.path(&address)).unwrap();
        Ok(address)
    }

    async fn mend(&self, address: &Address) -> Result<(), Skip> {
        fs::remove_dir(self.path(address)).unwrap();
        Ok(())
    }
}

sink_conformance!(file: FileFixture);
