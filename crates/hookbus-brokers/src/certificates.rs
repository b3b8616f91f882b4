//! Certificates for one broker and its clients, made by the `openssl` command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Result, error::Doing as _, folders, process::output};

/// PEM files: an authority of one broker's own, the broker's certificate for `localhost` and 127.0.0.1, and a client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// The authority that signed both.
    pub ca: PathBuf,
    /// The broker's certificate.
    pub cert: PathBuf,
    /// The broker's key, PKCS #8.
    pub key: PathBuf,
    /// A client's certificate, for the name `hookbus`.
    pub client_cert: PathBuf,
    /// The client's key, PKCS #8.
    pub client_key: PathBuf,
}

/// A certificate's file, its name, and its extensions.
const CERTIFICATES: [(&str, &str, &str); 2] = [
    (
        "server",
        "/CN=localhost",
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:false\n",
    ),
    ("client", "/CN=hookbus", "extendedKeyUsage=clientAuth\nbasicConstraints=CA:false\n"),
];

impl Certificates {
    /// Where they are for a broker with this data folder.
    pub(crate) fn below(folder: &Path) -> Self {
        let file = |name: &str| folder.join("certificates").join(name);
        Self {
            ca: file("ca.pem"),
            cert: file("server.pem"),
            key: file("server-key.pem"),
            client_cert: file("client.pem"),
            client_key: file("client-key.pem"),
        }
    }

    /// Makes them, where there are none yet.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let certificates = Self::below(folder);
        let folder = folders::make(folder.join("certificates"))?;
        if certificates.client_cert.is_file() {
            return Ok(certificates);
        }
        let openssl =
            |line: &str| output(Command::new("openssl").args(line.split(' ')).current_dir(&folder)).map(drop);
        const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc";
        openssl(&format!(
            "req -x509 {KEY} -keyout ca-key.pem -out ca.pem -days 3650 -subj /CN=hookbus-test-ca"
        ))?;
        for (name, subject, extensions) in CERTIFICATES {
            folders::write(&folder.join(format!("{name}.ext")), extensions)?;
            openssl(&format!("req {KEY} -keyout {name}-key.pem -out {name}.csr -subj {subject}"))?;
            openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 3650 \
                 -extfile {name}.ext -out {name}.pem"
            ))?;
        }
        Ok(certificates)
    }

    /// The broker's key and certificate in one file, as Kafka wants them.
    pub(crate) fn keystore(&self) -> Result<PathBuf> {
        let path = self.key.with_file_name("keystore.pem");
        let read = |path: &Path| fs::read_to_string(path).doing(|| format!("read {}", path.display()));
        folders::write(&path, &(read(&self.key)? + &read(&self.cert)?))?;
        Ok(path)
    }
}
