//! The connection to the server: made when it is needed, given up when it fails.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};
#[cfg(feature = "tls")]
use std::{fs, path::Path};

use hookbus_core::{ErrorKind, Instant, SinkContext, SinkError};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tokio::{sync::Mutex, time::timeout_at};

use crate::{Confirm, RedisConfig, classify::classify, inspect::Server};

/// Requests the driver queues for its connection: more than all parts of all batches in flight.
const REQUESTS: usize = 256;

/// The way to one server. Whoever needs a connection and finds none makes it: how often that is tried while the
/// server is down is the lane's business.
pub(crate) struct Link {
    config: RedisConfig,
    context: SinkContext,
    state: Mutex<State>,
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    made: u64,
    /// What was said about the server last, so that a reconnect does not repeat it.
    warned: Vec<String>,
}

/// A connection that was working a moment ago. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) driver: MultiplexedConnection,
    /// The longest string the server takes.
    pub(crate) largest: usize,
    number: u64,
}

impl Link {
    pub(crate) fn new(config: RedisConfig, context: SinkContext) -> Self {
        Self { config, context, state: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// The connection, made now where there is none.
    pub(crate) async fn connection(&self, deadline: Instant) -> Result<Connection, SinkError> {
        let connection = async {
            let mut state = self.state.lock().await;
            if self.closed.load(Ordering::Acquire) {
                return Err(SinkError::new(ErrorKind::Closed, "connect", "the sink was closed"));
            }
            if let Some(connection) = &state.connection {
                return Ok(connection.clone());
            }
            let connection = self.connect(&mut state).await?;
            state.connection = Some(connection.clone());
            Ok(connection)
        };
        let late = || SinkError::new(ErrorKind::Timeout, "connect", "no connection before the deadline");
        timeout_at(deadline, connection).await.unwrap_or_else(|_| Err(late()))
    }

    /// Gives a connection up that failed, unless that has been done. Answers that are still to come on it would be
    /// answers to questions nobody waits for any more.
    pub(crate) async fn lost(&self, failed: &Connection) {
        let mut state = self.state.lock().await;
        if state.connection.as_ref().is_some_and(|connection| connection.number == failed.number) {
            state.connection = None;
        }
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.state.lock().await.connection = None;
    }

    /// When an event counts as delivered.
    pub(crate) fn config(&self) -> &RedisConfig {
        &self.config
    }

    async fn connect(&self, state: &mut State) -> Result<Connection, SinkError> {
        let client = self.client()?;
        // Deadlines are ours; the driver's own would cut a slow answer short and leave it unknown.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(REQUESTS);
        let failed = |error| classify("connect", error);
        let mut driver =
            client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;
        let server = Server::ask(&mut driver).await.map_err(failed)?;
        if server.warnings != state.warned {
            server.warnings.iter().for_each(|warning| tracing::warn!(sink = %self.context.name, "{warning}"));
            state.warned = server.warnings;
        }
        state.made += 1;
        tracing::debug!(sink = %self.context.name, url = %self.config.url, "connected");
        Ok(Connection { driver, largest: server.largest, number: state.made })
    }

    fn client(&self) -> Result<Client, SinkError> {
        let RedisConfig { url, username, password, .. } = &self.config;
        let mut login = RedisConnectionInfo::default().set_db(url.database);
        if let Some(username) = username {
            login = login.set_username(username);
        }
        if let Some(password) = password {
            let password = self.context.secret(password)?;
            let text = std::str::from_utf8(password.expose())
                .map_err(|_| SinkError::new(ErrorKind::Auth, "connect", "the password is no UTF-8 text"))?;
            login = login.set_password(text);
        }
        let address = if url.tls {
            ConnectionAddr::TcpTls {
                host: url.host.clone(),
                port: url.port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(url.host.clone(), url.port)
        };
        let server = address.into_connection_info().map_err(|error| classify("connect", error))?;
        // Without TCP_NODELAY the last segment of a batch waits for the acknowledgement of the one before.
        let server =
            server.set_redis_settings(login).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        self.open(server).map_err(|error| match error {
            Opening::File(error) => error,
            Opening::Driver(error) => classify("connect", error),
        })
    }

    #[cfg(not(feature = "tls"))]
    fn open(&self, server: ConnectionInfo) -> Result<Client, Opening> {
        Ok(Client::open(server)?)
    }

    #[cfg(feature = "tls")]
    fn open(&self, server: ConnectionInfo) -> Result<Client, Opening> {
        if !self.config.url.tls {
            return Ok(Client::open(server)?);
        }
        // The driver takes the process's provider and panics where there is none; whoever was first is right.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tls = self.config.tls.as_ref();
        let read = |path: &Path| read(&self.context.base.join(path));
        let root_cert = tls.and_then(|tls| tls.ca.as_deref()).map(read).transpose()?;
        let client_tls = match tls.and_then(|tls| tls.cert.as_deref().zip(tls.key.as_ref())) {
            Some((cert, key)) => {
                let client_key = self.context.secret(key).map_err(Opening::File)?.expose().to_vec();
                Some(redis::ClientTlsConfig { client_cert: read(cert)?, client_key })
            }
            None => None,
        };
        Ok(Client::build_with_tls(server, redis::TlsCertificates { client_tls, root_cert })?)
    }
}

/// Why a client could not be made.
enum Opening {
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS reads files"))]
    File(SinkError),
    Driver(RedisError),
}

impl From<RedisError> for Opening {
    fn from(error: RedisError) -> Self {
        Self::Driver(error)
    }
}

#[cfg(feature = "tls")]
fn read(path: &Path) -> Result<Vec<u8>, Opening> {
    fs::read(path).map_err(|error| {
        let message = format!("cannot read {}", path.display());
        Opening::File(SinkError::new(ErrorKind::Auth, "connect", message).with_source(error))
    })
}

impl fmt::Debug for Link {
    // Neither the connection nor what it logs in with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.config.url)
    }
}

impl Confirm {
    /// How many replicas must have an event.
    pub(crate) fn replicas(self) -> Option<u16> {
        match self {
            Self::Reply => None,
            Self::Replicas(count) => Some(count),
        }
    }
}
