//! How a connection is made: credentials, TLS, socket, login.

use std::{io, path::Path, thread};

use hookbus_core::{ErrorKind, Instant, Secret, SinkContext, SinkError};
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    auth::AuthProvider,
    runtime::default_runtime,
    tcp::{AMQPUriTcpExt as _, OwnedIdentity, OwnedTLSConfig, TLSConfig},
    types::{LongString, ShortString},
    uri::AMQPUri,
};
use tokio::time::timeout_at;

use crate::{
    RabbitMqConfig,
    classify::{Place, classify},
    link::Link,
    nodes::Node,
    wire::Wire,
};

/// The name the driver gives its threads.
const DRIVER_THREAD: &str = "lapin-io-loop";

/// Connects to a node.
///
/// # Errors
/// Why there is no connection. Nothing is left of the attempt then, not even a thread.
pub(crate) async fn connect(
    node: &Node,
    config: &RabbitMqConfig,
    context: &SinkContext,
    deadline: Instant,
) -> Result<Link, SinkError> {
    let lost = |error| classify(Place::Login, "connect", &error);
    let password = match &config.password {
        Some(reference) => context.secret(reference)?,
        None => Secret::new("guest"),
    };
    let login = Plain { user: config.user().into(), password };
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("hookbus {}", context.name).into())
        .with_auth_provider(login);
    let tls = if node.tls() { Some(certificates(config, context)?) } else { None };
    let (wire, host) = (Wire::default(), node.host().to_owned());
    let end = wire.end();
    let runtime = default_runtime().map_err(lost)?;
    let driver = runtime.clone();
    // Called on the driver's thread, which waits for it without a limit of its own.
    let open = async move |uri: AMQPUri, _| {
        silence_this_thread();
        let open = async {
            let stream = uri.connect_with_config_async(TLSConfig::default(), &driver).await?;
            if let AsyncTcpStream::Plain(stream) = &stream {
                end.attach(stream.get_ref())?;
            }
            match &tls {
                Some(tls) => stream.into_tls(&host, tls.as_ref()).await,
                None => Ok(stream),
            }
        };
        Ok(timeout_at(deadline, open).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?)
    };
    let connecting = Connection::connector(node.uri(config.heartbeat_seconds()), runtime, open, properties);
    match timeout_at(deadline, connecting).await {
        Ok(Ok(connection)) => Ok(Link::new(connection, wire)),
        Ok(Err(error)) => Err(lost(error)),
        Err(_) => {
            Err(SinkError::new(ErrorKind::Timeout, "connect", format!("no answer from {node} in time")))
        }
    }
}

/// The driver logs what happens on a connection, whole returned messages among it, on the thread this is called on.
/// What happens is in its errors too, and payloads must not get into a log, whatever level is asked for.
fn silence_this_thread() {
    if thread::current().name() == Some(DRIVER_THREAD) {
        // For as long as the thread lives.
        std::mem::forget(tracing::dispatcher::set_default(&tracing::Dispatch::none()));
    }
}

/// A login with SASL's PLAIN. The driver's own takes the password out of a URL, which is easily shown.
struct Plain {
    user: String,
    password: Secret,
}

impl AuthProvider for Plain {
    fn mechanism(&self) -> ShortString {
        "PLAIN".into()
    }

    fn auth_starter(&self) -> Result<LongString, String> {
        Ok([b"\0", self.user.as_bytes(), b"\0", self.password.expose()].concat().into())
    }
}

/// Reads the certificates, each time, so that renewed ones count.
fn certificates(config: &RabbitMqConfig, context: &SinkContext) -> Result<OwnedTLSConfig, SinkError> {
    // One provider of cryptography for the whole program; whoever came first has installed it.
    #[cfg(feature = "tls")]
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let read = |path: &Path| {
        std::fs::read_to_string(context.base.join(path)).map_err(|error| {
            let text = format!("cannot read the certificates in {}", path.display());
            SinkError::new(ErrorKind::Auth, "connect", text).with_source(error)
        })
    };
    let Some(tls) = &config.tls else { return Ok(OwnedTLSConfig::default()) };
    let identity = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: read(cert)?.into_bytes(),
            key: context.secret(key)?.expose().to_vec(),
        }),
        _ => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain: tls.ca.as_deref().map(read).transpose()? })
}
