//! A certificate and its key: from two files to something to shake hands with, or to what is wrong with them.

use std::{
    error::Error,
    fmt, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};
use thiserror::Error as ThisError;
use x509_cert::{Certificate, der::Decode as _};

/// The longest file that is read: a chain has some kilobytes.
const MAX_FILE: u64 = 1 << 20;
/// How often both files are read before they count as what they are: they may be swapped meanwhile.
const TRIES: usize = 3;

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsPaths {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFile {
    /// The certificate.
    Certificate,
    /// The key.
    Key,
}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "key",
        })
    }
}

type Cause = Box<dyn Error + Send + Sync>;

/// What is wrong with a certificate or its key. Nothing of a key is shown.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum TlsError {
    /// The file is not there, or may not be read.
    #[error("cannot read the {what} file {}: {source}", .path.display())]
    Unreadable {
        /// What was to be in it.
        what: TlsFile,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is longer than 1 MiB.
    #[error("{} is longer than 1 MiB: this is no {what} file", .path.display())]
    TooLong {
        /// What was to be in it.
        what: TlsFile,
        /// The file.
        path: PathBuf,
    },
    /// The file is no PEM.
    #[error("{}: the {what} file is no sound PEM: {source}", .path.display())]
    Broken {
        /// What was to be in it.
        what: TlsFile,
        /// The file.
        path: PathBuf,
        /// Where it breaks.
        source: Cause,
    },
    /// There is no certificate, or no key, in the file.
    #[error("{}: there is no {what} in it{}", .path.display(), hint(*.what))]
    Missing {
        /// What was to be in it.
        what: TlsFile,
        /// The file.
        path: PathBuf,
    },
    /// The key is encrypted.
    #[error("{}: the key is encrypted; `openssl pkey -in {} -out plain.pem` writes it plain", .0.display(), .0.display())]
    Encrypted(PathBuf),
    /// The file holds something of the right name that is not what it says.
    #[error("{}: the {what} in it cannot be used: {source}", .path.display())]
    Unusable {
        /// What it was to be.
        what: TlsFile,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Cause,
    },
    /// The key belongs to another certificate.
    #[error("the key in {} does not fit the certificate in {}", .key.display(), .cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate has expired.
    #[error("{}: the certificate expired at {}", .path.display(), written(*.at))]
    Expired {
        /// The file.
        path: PathBuf,
        /// When.
        at: SystemTime,
    },
    /// The cryptography of this build cannot do TLS.
    #[error("TLS is not possible here: {0}")]
    Cryptography(Cause),
}

fn hint(what: TlsFile) -> &'static str {
    match what {
        TlsFile::Certificate => "; it begins with -----BEGIN CERTIFICATE-----",
        TlsFile::Key => "; it begins with -----BEGIN PRIVATE KEY-----",
    }
}

/// A time as people read it.
fn written(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "a time that cannot be".into(), |time| time.to_string())
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

impl Validity {
    /// The end, as people and programs read it.
    pub(crate) fn until_text(&self) -> String {
        written(self.until)
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.until.duration_since(SystemTime::now()).unwrap_or_default();
        let days = left.as_secs() / 86_400;
        write!(f, "expires at {}, in {days} day{}", written(self.until), if days == 1 { "" } else { "s" })?;
        match self.from.duration_since(SystemTime::now()) {
            Ok(_) => write!(f, "; it is not valid before {}", written(self.from)),
            Err(_) => Ok(()),
        }
    }
}

/// The bytes of both files.
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    /// Reads both files, as they are at one moment.
    pub(super) fn read(paths: &TlsPaths) -> Result<Self, TlsError> {
        let mut cert = read(&paths.cert, TlsFile::Certificate)?;
        for _ in 1..TRIES {
            let key = read(&paths.key, TlsFile::Key)?;
            let again = read(&paths.cert, TlsFile::Certificate)?;
            if again == cert {
                return Ok(Self { cert, key });
            }
            cert = again;
        }
        Ok(Self { cert, key: read(&paths.key, TlsFile::Key)? })
    }

    /// A short form to tell a change by; nothing can be learned of the key from it.
    pub(super) fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.cert, &self.key).hash(&mut hasher);
        hasher.finish()
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub(super) struct Pair {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

impl Pair {
    /// Reads both files.
    pub(super) fn read(paths: &TlsPaths) -> Result<Self, TlsError> {
        Self::new(&Contents::read(paths)?, paths)
    }

    /// Checks what was read.
    pub(super) fn new(contents: &Contents, paths: &TlsPaths) -> Result<Self, TlsError> {
        let chain = chain(&contents.cert, &paths.cert)?;
        let validity = validity(&chain, &paths.cert)?;
        let key = key(&contents.key, &paths.key)?;
        let unusable = |what, path: &Path, error: rustls::Error| TlsError::Unusable {
            what,
            path: path.to_owned(),
            source: error.into(),
        };
        let key = default_provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| unusable(TlsFile::Key, &paths.key, error))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(TlsError::Mismatch { cert: paths.cert.clone(), key: paths.key.clone() });
            }
            Err(error) => return Err(unusable(TlsFile::Certificate, &paths.cert, error)),
        }
        if validity.until <= SystemTime::now() {
            return Err(TlsError::Expired { path: paths.cert.clone(), at: validity.until });
        }
        Ok(Self { key: Arc::new(certified), validity })
    }

    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    pub(super) fn validity(&self) -> Validity {
        self.validity
    }
}

fn read(path: &Path, what: TlsFile) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = read().map_err(|source| TlsError::Unreadable { what, path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(TlsError::TooLong { what, path: path.to_owned() });
    }
    Ok(bytes)
}

fn chain(text: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = TlsFile::Certificate;
    let broken = |error: pem::Error| TlsError::Broken { what, path: path.to_owned(), source: error.into() };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(broken)?;
    if chain.is_empty() { Err(TlsError::Missing { what, path: path.to_owned() }) } else { Ok(chain) }
}

fn key(text: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = TlsFile::Key;
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if text.windows(9).any(|part| part == b"ENCRYPTED") => {
            Err(TlsError::Encrypted(path.to_owned()))
        }
        Err(pem::Error::NoItemsFound) => Err(TlsError::Missing { what, path: path.to_owned() }),
        // What the library says of broken PEM may quote a line of it, which may be the key's.
        Err(_) => Err(TlsError::Broken { what, path: path.to_owned(), source: "it breaks off".into() }),
    }
}

/// When the first certificate is valid: it is ours, the others are of those who signed it.
fn validity(chain: &[CertificateDer<'static>], path: &Path) -> Result<Validity, TlsError> {
    let first = chain.first().map_or(&[][..], |first| first);
    let certificate = Certificate::from_der(first).map_err(|error| TlsError::Unusable {
        what: TlsFile::Certificate,
        path: path.to_owned(),
        source: error.to_string().into(),
    })?;
    let validity = certificate.tbs_certificate().validity();
    let time = |since: Duration| UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
    let (from, until) = (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration());
    Ok(Validity { from: time(from), until: time(until) })
}
