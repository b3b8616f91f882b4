//! Appending whole lines to a file so that they are either there for good or not at all.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A file that only grows by whole lines, and by nobody else's: it is locked while it is open.
#[derive(Debug)]
pub(crate) struct LineFile {
    path: PathBuf,
    file: File,
    /// An fsync failed: what the kernel then holds cannot be known, so this handle writes no more.
    failed: bool,
}

impl LineFile {
    /// Opens or makes the file (mode 0600). A line that a crash left unfinished is ended first, so that it spoils no
    /// line behind it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "the file is in use by another sink or process",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if file.seek(SeekFrom::End(0))? > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        // A name is only safe once its folder is. Asked each time: a crash may have come between the two.
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), file, failed: false })
    }

    /// Appends lines and waits until they are on disk. Returns where they begin.
    ///
    /// After an error none of them counts: a part that was written is cut off again. A failed fsync is final for
    /// this handle; it is never tried again, because the kernel may have dropped the pages and would then say yes.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<u64> {
        if self.failed {
            return Err(io::Error::other("an earlier write to this file failed; it must be opened again"));
        }
        // Asked, not remembered: somebody may have cut the file to copy it away.
        let start = self.len()?;
        if let Err(error) = self.file.write_all(lines) {
            self.failed = self.file.set_len(start).is_err();
            return Err(error);
        }
        if let Err(error) = self.file.sync_data() {
            self.failed = true;
            return Err(error);
        }
        Ok(start)
    }

    /// Bytes in the file.
    pub(crate) fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    /// Whether it can go on being used: it works, and its path still leads to it. Where the file was moved or removed,
    /// lines written to it would be lost.
    pub(crate) fn is_current(&self) -> bool {
        let same = || {
            let (mine, there) = (self.file.metadata()?, fs::metadata(&self.path)?);
            io::Result::Ok((mine.dev(), mine.ino()) == (there.dev(), there.ino()))
        };
        !self.failed && same().unwrap_or(false)
    }
}

/// Makes a folder and its parents with mode 0700, each of them safe on disk.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    private_folder(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        // Somebody else made it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_line_is_ended_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        fs::write(&path, "whole\ntorn").unwrap();
        let mut file = LineFile::open(&path).unwrap();
        assert_eq!(file.append(b"next\n").unwrap(), 11);
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\ntorn\nnext\n");
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_not_current() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let file = LineFile::open(&path).unwrap();
        assert!(file.is_current());
        fs::rename(&path, folder.path().join("rotated")).unwrap();
        assert!(!file.is_current());
        let again = LineFile::open(&path).unwrap();
        assert!(again.is_current());
        fs::remove_file(&path).unwrap();
        assert!(!again.is_current());
    }

    #[test]
    fn a_file_that_was_cut_is_appended_to_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut file = LineFile::open(&path).unwrap();
        file.append(b"copied away\n").unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert_eq!(file.append(b"next\n").unwrap(), 0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "next\n");
    }

    #[test]
    fn one_file_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let first = LineFile::open(&path).unwrap();
        assert_eq!(LineFile::open(&path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        assert!(LineFile::open(&path).is_ok());
    }

    #[test]
    fn new_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        private_folder(&inner).unwrap();
        LineFile::open(&inner.join("lines")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&inner.join("lines"))), (0o700, 0o600));
    }
}
