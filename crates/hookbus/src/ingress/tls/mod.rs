//! TLS: who we are, which versions and protocols are spoken, and the handshake.

mod files;
mod keys;

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    version::{TLS12, TLS13},
};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use files::{TlsError, TlsFile};
pub(crate) use files::{TlsPaths, Validity};
pub(crate) use keys::TlsKeys;

use super::{
    answer::Problem,
    connection::Protocol,
    stream::{FAREWELL, Stream},
};
use crate::metrics::{Handshake, Metrics};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What a client may choose, in our order.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS of a listener.
#[derive(Debug)]
pub(crate) struct Tls {
    keys: Arc<TlsKeys>,
    serving: Arc<ServerConfig>,
    /// For clients that are told that there is no place: what they are told is HTTP/1.1.
    turning_away: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn new(paths: TlsPaths) -> Result<Self, TlsError> {
        let keys = Arc::new(TlsKeys::read(paths)?);
        let (serving, turning_away) = (config(&keys, &PROTOCOLS)?, config(&keys, &PROTOCOLS[1..])?);
        Ok(Self { keys, serving, turning_away })
    }

    /// The same, and goes on with other keys when the files change.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn followed(paths: TlsPaths) -> Result<Arc<Self>, TlsError> {
        let tls = Arc::new(Self::new(paths)?);
        tokio::spawn(follow(Arc::downgrade(&tls)));
        Ok(tls)
    }

    /// The certificate and its key.
    pub(crate) fn keys(&self) -> &Arc<TlsKeys> {
        &self.keys
    }

    /// Shakes hands; nothing where that failed. How long it may take is the caller's to say.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        metrics: &Metrics,
    ) -> Option<(TlsStream<TcpStream>, Protocol)> {
        // Counted as cut short where it is dropped.
        let mut handshake = metrics.connections.handshake();
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 1 && first[0].is_ascii_uppercase() {
            // The first byte of every record of TLS is below 32: this is a method of HTTP.
            handshake.ended(Handshake::PlainHttp);
            Stream::Clear(stream).say(&Problem::needs_tls()).await;
            return None;
        }
        match TlsAcceptor::from(Arc::clone(&self.serving)).accept(stream).await {
            Ok(stream) => {
                handshake.ended(Handshake::Done);
                let http2 = stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0]);
                Some((stream, if http2 { Protocol::Http2 } else { Protocol::Http1 }))
            }
            Err(error) => {
                handshake.ended(Handshake::Failed);
                tracing::debug!(%error, "TLS handshake failed");
                None
            }
        }
    }

    /// Says 503 to a connection that there is no place for.
    pub(super) async fn turn_away(&self, stream: TcpStream, problem: &Problem) {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.turning_away));
        if let Ok(Ok(stream)) = timeout(FAREWELL, acceptor.accept(stream)).await {
            Stream::Tls(Box::new(stream)).say(problem).await;
        }
    }
}

/// Looks at the files again and again, as long as it is in use.
async fn follow(tls: Weak<Tls>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Some(keys) = tls.upgrade().map(|tls| Arc::clone(&tls.keys)) else { return };
        // A folder on the network may take its time.
        let _ = tokio::task::spawn_blocking(move || reread(&keys)).await;
    }
}

fn reread(keys: &TlsKeys) {
    match keys.reread() {
        Ok(None) => {}
        Ok(Some(validity)) => tracing::info!(certificate = %validity, "new TLS certificate in use"),
        Err(error) => tracing::error!(%error, "new TLS certificate refused, the one before it stays in use"),
    }
}

fn config(keys: &Arc<TlsKeys>, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let unusable = |error: rustls::Error| TlsError::Cryptography(error.into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(keys) as Arc<_>);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Tickets keep nothing here for clients that come back. No early data: it could be sent again by anybody.
    config.ticketer = Ticketer::new().map_err(unusable)?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// The time until which the certificate in these files is valid, checked like at the start.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn check(paths: &TlsPaths) -> Result<Validity, TlsError> {
    Ok(files::Pair::read(paths)?.validity())
}

impl TlsPaths {
    /// The files of a configuration in this folder.
    pub(crate) fn new(base: &Path, files: &crate::config::ServerTls) -> Self {
        Self { cert: base.join(&files.cert), key: base.join(&files.key) }
    }
}
