//! Certificates, and clients that trust them.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A certificate for `localhost` that signs itself, and its key.
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Certificate {
    /// A new one, valid until the first day of a year.
    pub(crate) fn until(year: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        // A name of its own, so that a client that trusts many finds the one that is meant.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("hookbus {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), cert: certificate.pem(), key: key.serialize_pem() }
    }

    /// A new one.
    pub(crate) fn new() -> Self {
        Self::until(2099)
    }

    /// One whose key somebody else has.
    pub(crate) fn read(path: impl AsRef<Path>) -> Self {
        let cert = fs::read_to_string(path).unwrap();
        let der = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        Self { der, cert, key: String::new() }
    }

    /// The same with something changed.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Puts both files into a new folder and lets the link show it from now on, as a volume of secrets is swapped.
    pub(crate) fn install(&self, link: &Path) {
        let folder =
            tempfile::Builder::new().prefix("tls-").tempdir_in(link.parent().unwrap()).unwrap().keep();
        fs::write(folder.join("cert.pem"), &self.cert).unwrap();
        fs::write(folder.join("key.pem"), &self.key).unwrap();
        let new = folder.with_extension("link");
        symlink(&folder, &new).unwrap();
        fs::rename(&new, link).unwrap();
    }

    /// Whether this is what the other side showed.
    pub(crate) fn is_shown(&self, stream: &TlsStream<TcpStream>) -> bool {
        stream.get_ref().1.peer_certificates().unwrap()[0] == self.der
    }
}

/// How a client speaks TLS, and whom it trusts.
#[derive(Clone)]
pub(crate) struct Trust(TlsConnector);

impl Trust {
    /// TLS of these versions with whoever has one of these certificates. Sessions are not resumed.
    pub(crate) fn with(
        certificates: &[&Certificate],
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        certificates.iter().for_each(|certificate| roots.add(certificate.der.clone()).unwrap());
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = rustls::client::Resumption::disabled();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Any version, HTTP/1.1.
    pub(crate) fn http1(certificate: &Certificate) -> Self {
        Self::with(&[certificate], &[&TLS12, &TLS13], &["http/1.1"])
    }

    /// Any version, HTTP/2.
    pub(crate) fn http2(certificate: &Certificate) -> Self {
        Self::with(&[certificate], &[&TLS12, &TLS13], &["h2"])
    }

    /// Connects and shakes hands.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        self.0.connect(ServerName::try_from("localhost").unwrap(), stream).await
    }
}
