//! The few things the journal asks of a file system, so that tests can make each of them fail.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A folder of files, all on one level.
pub trait Folder: fmt::Debug + Send + Sync + 'static {
    /// Opens a file that is there, to read and to write.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::NotFound`] where there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Makes a new file that only its owner may read (mode 0600). Its name is safe after [`Folder::sync`].
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::AlreadyExists`] where there is one of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// As the system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Gives a file another name; a file that had it is gone.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names of all files safe on disk.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&self) -> io::Result<()>;
}

/// A file of a [`Folder`].
#[allow(clippy::len_without_is_empty, reason = "asking may fail, and nobody asks that")]
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Reads up to as many bytes as fit into `buffer`, from `offset` on; fewer only at the end of the file.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at `offset`; the file grows as far as is needed.
    ///
    /// # Errors
    /// As the system says; some of the bytes may have been written then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written safe on disk. An error is final: what the disk then holds cannot be known.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&self) -> io::Result<()>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// As the system says.
    fn len(&self) -> io::Result<u64>;

    /// Sets aside the room for so many bytes of a new file, and fills it with zeros: so writing there cannot fail for lack
    /// of room, and is safe sooner than where the file system has to note that the room is in use now.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::StorageFull`] where there is no room.
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// Cuts the file off behind so many bytes, to give back the room. Only a hint.
    ///
    /// # Errors
    /// As the system says.
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
}

/// Writes what a file holds there once more, so that an fsync has something to write.
pub(crate) fn rewrite(file: &dyn File, offset: u64, length: usize) -> io::Result<()> {
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, offset)?;
    file.write_at(&bytes[..read], offset)
}

/// What new files are filled with, in one write.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// A folder of the real file system.
#[derive(Debug)]
pub struct RealFolder {
    path: PathBuf,
}

impl RealFolder {
    /// The folder at `path`, made with mode 0700 where there is none.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        make_private(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Folder for RealFolder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(self.path.join(name))?)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(RealFile(options.open(self.path.join(name))?)))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.0.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            allocated => allocated?,
        }
        // Piece by piece onto the disk, so that an fsync of the segment in use never waits for much of it.
        for offset in (0..bytes).step_by(ZEROS.len()) {
            let rest = usize::try_from(bytes - offset).unwrap_or(usize::MAX);
            self.0.write_all_at(&ZEROS[..rest.min(ZEROS.len())], offset)?;
            self.0.sync_data()?;
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}

/// Makes a folder and its parents with mode 0700, each of them safe on disk.
fn make_private(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    make_private(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        // Somebody else made it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    fs::File::open(parent)?.sync_all()
}
