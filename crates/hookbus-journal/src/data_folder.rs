//! The data folder: one process at a time, one key, one version of the format.

use std::{
    fs::{self, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use hookbus_core::record::RecordKey;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{Folder, RealFolder};

/// The version of the folder this makes, and the newest it opens.
const VERSION: u32 = 1;
const LOCK: &str = "lock";
const KEY: &str = "key";
const FORMAT: &str = "format";
const KEY_BYTES: usize = 32;

/// The folder of everything that has to outlive the process, locked as long as this value lives.
#[derive(Debug)]
pub struct DataFolder {
    folder: Arc<RealFolder>,
    key: RecordKey,
    /// The lock goes with it.
    _lock: fs::File,
}

/// The data folder cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("the data folder {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// What is in it was written under a key that is not there.
    #[error(
        "the data folder has events and no `key`: put the file back from a backup (mode 0600). Without it the events \
         cannot be told from forged ones; to begin anew, move the folder away"
    )]
    KeyMissing,
    /// The key is none.
    #[error("`key` in the data folder has {0} bytes instead of {KEY_BYTES}: put it back from a backup")]
    KeyLength(u64),
    /// Others may read the key.
    #[error(
        "others may read `key` in the data folder (mode {0:o}): `chmod 600` it, if nobody has read it yet"
    )]
    KeyReadable(u32),
    /// A newer version of hookbus made the folder.
    #[error(
        "the data folder has version {0} of the format, which is newer than this program (version {VERSION})"
    )]
    Newer(u32),
    /// It says of itself what nobody understands.
    #[error("`format` in the data folder cannot be understood: it must hold `hookbus {VERSION}`")]
    Format,
    /// The disk does not do what is needed.
    #[error("the data folder: cannot {doing} `{name}`: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        name: String,
        /// What the system says.
        source: io::Error,
    },
}

impl DataFolder {
    /// Opens the folder at `path` and locks it; makes it (mode 0700), its key and its format where there are none.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::InUse`] at once where another process holds it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |doing, name: &str| {
            let name = name.to_owned();
            move |source| OpenError::Io { doing, name, source }
        };
        let folder = RealFolder::open(path).map_err(failed("make", &path.display().to_string()))?;
        let mut options = fs::OpenOptions::new();
        let lock =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK));
        let lock = lock.map_err(failed("open", LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("lock", LOCK)(source)),
        }
        match fs::metadata(path.join(KEY)) {
            Ok(there) if there.permissions().mode() & 0o077 != 0 => {
                return Err(OpenError::KeyReadable(there.permissions().mode() & 0o777));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("read", KEY)(error)),
            _ => {}
        }
        let key = open_key(&folder)?;
        Ok(Self { folder: Arc::new(folder), key, _lock: lock })
    }

    /// Whether there is one at `path`: nothing is made.
    pub fn exists(path: &Path) -> bool {
        path.join(KEY).exists() || path.join(LOCK).exists()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its files.
    pub fn folder(&self) -> Arc<dyn Folder> {
        Arc::<RealFolder>::clone(&self.folder)
    }

    /// Its key.
    pub fn key(&self) -> &RecordKey {
        &self.key
    }
}

/// The key of a folder, after a look at the folder's version. Makes both where the folder is new.
///
/// # Errors
/// [`OpenError`]; no key is made where anything has been written under one.
pub fn open_key(folder: &dyn Folder) -> Result<RecordKey, OpenError> {
    let version = read_version(folder)?;
    let key = match read(folder, KEY, KEY_BYTES)? {
        Some((bytes, KEY_LENGTH)) => Zeroizing::new(bytes),
        Some((_, other)) => return Err(OpenError::KeyLength(other)),
        None => {
            let names = folder.names().map_err(|source| failure("list", ".", source))?;
            if version.is_some() || names.iter().any(|name| name.ends_with(".segment")) {
                return Err(OpenError::KeyMissing);
            }
            let mut bytes = Zeroizing::new(vec![0; KEY_BYTES]);
            getrandom::fill(&mut bytes).map_err(|error| failure("make", KEY, io::Error::other(error)))?;
            write(folder, KEY, &bytes)?;
            bytes
        }
    };
    if version.is_none() {
        // After the key: a folder that says its version has had one.
        write(folder, FORMAT, format!("hookbus {VERSION}\n").as_bytes())?;
    }
    RecordKey::new(&key).map_err(|_| OpenError::KeyLength(key.len() as u64))
}

const KEY_LENGTH: u64 = KEY_BYTES as u64;

fn read_version(folder: &dyn Folder) -> Result<Option<u32>, OpenError> {
    let Some((bytes, _)) = read(folder, FORMAT, 64)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).ok();
    let version = text.and_then(|text| text.trim().strip_prefix("hookbus ")?.parse().ok());
    match version {
        Some(version) if version > VERSION => Err(OpenError::Newer(version)),
        Some(version) if version > 0 => Ok(Some(version)),
        _ => Err(OpenError::Format),
    }
}

/// The first bytes of a small file, and how many it has; nothing where there is none.
fn read(folder: &dyn Folder, name: &str, most: usize) -> Result<Option<(Vec<u8>, u64)>, OpenError> {
    let file = match folder.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|source| failure("open", name, source))?,
    };
    let mut bytes = vec![0; most];
    let read = file.read_at(&mut bytes, 0).map_err(|source| failure("read", name, source))?;
    bytes.truncate(read);
    Ok(Some((bytes, file.len().map_err(|source| failure("read", name, source))?)))
}

/// Makes a small file so that it is there whole or not at all.
fn write(folder: &dyn Folder, name: &str, bytes: &[u8]) -> Result<(), OpenError> {
    let new = format!("{name}.new");
    let written = || {
        match folder.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = folder.create(&new)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        folder.rename(&new, name)?;
        folder.sync()
    };
    written().map_err(|source| failure("write", name, source))
}

fn failure(doing: &'static str, name: &str, source: io::Error) -> OpenError {
    OpenError::Io { doing, name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &Path) -> Vec<u8> {
        fs::read(path.join(KEY)).unwrap()
    }

    #[test]
    fn a_new_folder_gets_a_private_key_that_stays() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("data");
        assert!(!DataFolder::exists(&path));
        let first = DataFolder::open(&path).unwrap().key().fingerprint();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(KEY)), mode(&path.join(LOCK))), (0o700, 0o600, 0o600));
        assert_eq!(key(&path).len(), KEY_BYTES);
        assert_eq!(DataFolder::open(&path).unwrap().key().fingerprint(), first);
        let other = outer.path().join("other");
        assert_ne!(DataFolder::open(&other).unwrap().key().fingerprint(), first);
    }

    #[test]
    fn a_folder_has_one_holder() {
        let outer = tempfile::tempdir().unwrap();
        let first = DataFolder::open(outer.path()).unwrap();
        assert!(matches!(DataFolder::open(outer.path()), Err(OpenError::InUse(_))));
        drop(first);
        assert!(DataFolder::open(outer.path()).is_ok());
    }

    #[test]
    fn a_key_that_is_lost_is_not_made_again() {
        let outer = tempfile::tempdir().unwrap();
        drop(DataFolder::open(outer.path()).unwrap());
        let bytes = key(outer.path());
        fs::remove_file(outer.path().join(KEY)).unwrap();
        assert!(matches!(DataFolder::open(outer.path()), Err(OpenError::KeyMissing)));
        fs::remove_file(outer.path().join(FORMAT)).unwrap();
        fs::write(outer.path().join("letters-0000000001.segment"), "x").unwrap();
        assert!(matches!(DataFolder::open(outer.path()), Err(OpenError::KeyMissing)));
        assert!(!outer.path().join(KEY).exists());
        fs::write(outer.path().join(KEY), &bytes[1..]).unwrap();
        let chmod =
            |mode| fs::set_permissions(outer.path().join(KEY), fs::Permissions::from_mode(mode)).unwrap();
        chmod(0o640);
        assert!(matches!(DataFolder::open(outer.path()), Err(OpenError::KeyReadable(0o640))));
        chmod(0o600);
        assert!(matches!(DataFolder::open(outer.path()), Err(OpenError::KeyLength(31))));
        fs::write(outer.path().join(KEY), &bytes).unwrap();
        assert!(DataFolder::open(outer.path()).is_ok());
    }

    #[test]
    fn a_newer_format_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        drop(DataFolder::open(outer.path()).unwrap());
        let format = outer.path().join(FORMAT);
        assert_eq!(fs::read_to_string(&format).unwrap(), "hookbus 1\n");
        fs::write(&format, "hookbus 2\n").unwrap();
        assert!(matches!(DataFolder::open(outer.path()), Err(OpenError::Newer(2))));
        fs::write(&format, "\u{0}\u{1}").unwrap();
        assert!(matches!(DataFolder::open(outer.path()), Err(OpenError::Format)));
        fs::remove_file(&format).unwrap();
        fs::write(outer.path().join("format.new"), "hookb").unwrap();
        assert!(DataFolder::open(outer.path()).is_ok(), "a crash between the two files");
    }
}
