//! Appending whole lines to a file so that they are either there for good or not at all.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// A file that only grows by whole lines.
#[derive(Debug)]
pub(crate) struct LineFile {
    file: File,
    len: u64,
    /// An fsync failed: what the kernel then holds cannot be known, so this handle writes no more.
    failed: bool,
}

impl LineFile {
    /// Opens or makes the file (mode 0600). A line that a crash left unfinished is ended first, so that it spoils no
    /// line behind it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut len = file.seek(SeekFrom::End(0))?;
        if len > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(len - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                len += 1;
            }
        }
        if new && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // A new name is only safe once its folder is.
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file, len, failed: false })
    }

    /// Appends lines and waits until they are on disk. Returns where they begin.
    ///
    /// After an error none of them counts: a part that was written is cut off again. A failed fsync is final for
    /// this handle; it is never tried again, because the kernel may have dropped the pages and would then say yes.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<u64> {
        if self.failed {
            return Err(io::Error::other("an earlier write to this file failed; it must be opened again"));
        }
        let start = self.len;
        if let Err(error) = self.file.write_all(lines) {
            self.failed = self.file.set_len(start).is_err();
            return Err(error);
        }
        if let Err(error) = self.file.sync_data() {
            self.failed = true;
            return Err(error);
        }
        self.len = start + lines.len() as u64;
        Ok(start)
    }

    /// Bytes in the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether it must be opened again.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }
}

/// Makes a folder and its parents with mode 0700.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_unfinished_line_is_ended_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        fs::write(&path, "whole\ntorn").unwrap();
        let mut file = LineFile::open(&path).unwrap();
        assert_eq!(file.append(b"next\n").unwrap(), 11);
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\ntorn\nnext\n");
        assert_eq!(file.len(), 16);
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
