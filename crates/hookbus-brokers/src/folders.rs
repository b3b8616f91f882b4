//! Where brokers keep their data: below cargo's target folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, Kind, Result, error::Doing as _};

/// The folder of this crate below the target folder of whoever runs; it is made where it is missing.
///
/// Cargo marks its target folder with a `CACHEDIR.TAG`, and tests and `xtask` stand below it.
pub(crate) fn root() -> Result<PathBuf> {
    let program = env::current_exe().doing(|| "find out which program this is".into())?;
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let target = target.ok_or_else(|| {
        Error::Invalid(format!("{} is not below a target folder of cargo", program.display()))
    })?;
    make(target.join("brokers"))
}

/// Makes a folder where it is missing, and gives its path without links, as the system shows it elsewhere.
pub(crate) fn make(folder: impl AsRef<Path>) -> Result<PathBuf> {
    let folder = folder.as_ref();
    let made = fs::create_dir_all(folder).and_then(|()| folder.canonicalize());
    made.doing(|| format!("make the folder {}", folder.display()))
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing(|| format!("remove {}", folder.display())),
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing(|| format!("remove {}", path.display())),
    }
}

/// Writes a file of a broker.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).doing(|| format!("write {}", path.display()))
}

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let all = make(root()?.join("private"))?;
        sweep(&all);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        make(all.join(format!("{}-{number}-{kind}", process::id()))).map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A rest of it is swept up by the next.
        let _ = remove(&self.0);
    }
}

/// Removes the folders of processes that ended without a drop.
fn sweep(all: &Path) {
    let entries = fs::read_dir(all).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another process may be sweeping too.
            let _ = remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_is_below_the_target_folder_and_goes() {
        let scratch = Scratch::new(Kind::Redis).unwrap();
        let path = scratch.path().to_owned();
        assert!(path.starts_with(root().unwrap()) && path.is_dir());
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn folders_of_processes_that_are_gone_are_swept_up() {
        let scratch = Scratch::new(Kind::Kafka).unwrap();
        // No process has a number this high: the kernel's limit is 2^22.
        let (gone, ours) = (scratch.path().join("4999999-0-redis"), scratch.path().join("1-0-redis"));
        fs::create_dir(&gone).unwrap();
        fs::create_dir(&ours).unwrap();
        sweep(scratch.path());
        assert!(!gone.exists() && ours.exists());
    }
}
