//! The certificate that is shown in handshakes: swapped as a whole when its files change.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::files::{Contents, Pair, TlsError, TlsPaths, Validity};

/// A certificate and its key, in files that may change.
///
/// Handshakes take the pair that is current when they begin. Connections do not notice a swap.
pub(crate) struct TlsKeys {
    paths: TlsPaths,
    current: RwLock<Pair>,
    /// What was found last, good or not: each change is told once.
    found: Mutex<u64>,
    /// Why what was found last is not used, and when that was.
    refused: RwLock<Option<(SystemTime, String)>>,
}

impl TlsKeys {
    /// Reads both files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn read(paths: TlsPaths) -> Result<Self, TlsError> {
        let contents = Contents::read(&paths)?;
        let pair = Pair::new(&contents, &paths)?;
        Ok(Self {
            paths,
            current: RwLock::new(pair),
            found: Mutex::new(contents.print()),
            refused: RwLock::default(),
        })
    }

    /// Reads both files again. Where there is another pair, it is used from now on, and this says until when; nothing,
    /// where there is none.
    ///
    /// # Errors
    /// [`TlsError`], once for each change, where what is there now cannot be used; the pair before it stays.
    pub(crate) fn reread(&self) -> Result<Option<Validity>, TlsError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = Contents::read(&self.paths);
        // A file that cannot be read is told once too, and again when something else keeps it from being read.
        let print = contents.as_ref().map_or_else(|error| fingerprint(&error.to_string()), Contents::print);
        if *found == print {
            return Ok(None);
        }
        *found = print;
        let pair = contents.and_then(|contents| Pair::new(&contents, &self.paths));
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) =
            pair.as_ref().err().map(|error| (SystemTime::now(), error.to_string()));
        let pair = pair?;
        let validity = pair.validity();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(Some(validity))
    }

    /// Why the files that are there now are not used, and since when; nothing where they are.
    pub(crate) fn refused(&self) -> Option<(SystemTime, String)> {
        self.refused.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the certificate in use is valid.
    pub(crate) fn validity(&self) -> Validity {
        self.current.read().unwrap_or_else(PoisonError::into_inner).validity()
    }
}

fn fingerprint(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl ResolvesServerCert for TlsKeys {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.current.read().unwrap_or_else(PoisonError::into_inner).key()))
    }
}

impl fmt::Debug for TlsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsKeys").field("paths", &self.paths).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate and its key, as PEM.
    fn pair(until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn paths(folder: &Path) -> TlsPaths {
        TlsPaths { cert: folder.join("cert.pem"), key: folder.join("key.pem") }
    }

    fn read(cert: &str, key: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        fs::write(&paths.cert, cert).unwrap();
        fs::write(&paths.key, key).unwrap();
        let said = TlsKeys::read(paths).map_or_else(|error| error.to_string(), |_| "sound".to_owned());
        said.replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn what_is_wrong_is_said_with_its_file() {
        let (cert, key) = pair(2099);
        let (other_cert, other_key) = pair(2099);
        assert_eq!(read(&cert, &key), "sound");
        assert_eq!(read(&format!("{cert}{key}"), &format!("{cert}{key}")), "sound", "both in one file");
        assert_eq!(read(&format!("{cert}{other_cert}"), &key), "sound", "a chain");
        let mismatch = "the key in key.pem does not fit the certificate in cert.pem";
        assert_eq!(read(&cert, &other_key), mismatch);
        let begins = |what| format!("; it begins with -----BEGIN {what}-----");
        let no_certificate = format!("cert.pem: there is no certificate in it{}", begins("CERTIFICATE"));
        for cert in ["", "text", &key] {
            assert_eq!(read(cert, &key), no_certificate);
        }
        assert_eq!(read(&cert, &cert), format!("key.pem: there is no key in it{}", begins("PRIVATE KEY")));
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert!(read(&cert, &encrypted).starts_with("key.pem: the key is encrypted; `openssl pkey -in"));
        let cut = &key[..key.len() / 2];
        assert_eq!(read(&cert, cut), "key.pem: the key file is no sound PEM: it breaks off");
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(read(nonsense, &key).starts_with("cert.pem: the certificate in it cannot be used: "));
        let nonsense = nonsense.replace("CERTIFICATE", "PRIVATE KEY");
        assert!(read(&cert, &nonsense).starts_with("key.pem: the key in it cannot be used: "));
        let (cert, key) = pair(2021);
        assert_eq!(read(&cert, &key), "cert.pem: the certificate expired at 2021-01-01T00:00:00Z");
        assert!(read(&"x".repeat(2 << 20), &key).contains("longer than 1 MiB: this is no certificate file"));
        let nowhere = TlsKeys::read(paths(Path::new("/nonexistent"))).unwrap_err().to_string();
        assert!(nowhere.starts_with("cannot read the certificate file /nonexistent/cert.pem: No such file"));
    }

    #[test]
    fn a_new_pair_is_used_and_a_broken_one_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let write = |(cert, key): &(String, String)| {
            fs::write(&paths.cert, cert).unwrap();
            fs::write(&paths.key, key).unwrap();
        };
        let until = |keys: &TlsKeys| keys.validity().until_text();
        write(&pair(2097));
        let keys = TlsKeys::read(paths.clone()).unwrap();
        assert!(matches!(keys.reread(), Ok(None)));
        let second = pair(2098);
        fs::write(&paths.cert, &second.0).unwrap();
        assert!(matches!(keys.reread(), Err(TlsError::Mismatch { .. })));
        assert!(matches!(keys.reread(), Ok(None)), "it was told");
        assert_eq!(until(&keys), "2097-01-01T00:00:00Z");
        write(&second);
        assert!(matches!(keys.reread(), Ok(Some(_))));
        assert_eq!(until(&keys), "2098-01-01T00:00:00Z");
        fs::remove_file(&paths.key).unwrap();
        assert!(matches!(keys.reread(), Err(TlsError::Unreadable { what, .. }) if what.to_string() == "key"));
        assert!(matches!(keys.reread(), Ok(None)));
        write(&pair(2021));
        assert!(matches!(keys.reread(), Err(TlsError::Expired { .. })));
        write(&pair(2099));
        assert!(matches!(keys.reread(), Ok(Some(_))));
        assert_eq!(until(&keys), "2099-01-01T00:00:00Z");
    }
}
