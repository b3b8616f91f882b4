//! A small HTTP client, for sending events to a bridge.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{Failure, failure};

/// How long the whole exchange may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers are short; more is not read.
const MAX_ANSWER: usize = 64 << 10;

/// What the bridge answered.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// Posts a body and waits for the answer.
pub(super) async fn post(uri: &Uri, headers: HeaderMap, body: Bytes) -> Result<Answered, Failure> {
    match timeout(PATIENCE, exchange(uri, headers, body)).await {
        Ok(answered) => answered,
        Err(_) => failure(format!("no answer from {uri} within 60 s")),
    }
}

async fn exchange(uri: &Uri, headers: HeaderMap, body: Bytes) -> Result<Answered, Failure> {
    let Some(authority) = uri.authority().filter(|_| uri.scheme_str() == Some("http")) else {
        return failure(format!(
            "`{uri}`: events are sent to http:// addresses; for https use the bridge's own address"
        ));
    };
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => {
            return failure(format!("cannot reach {authority}: {error}; does `hookbus serve` run?"));
        }
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request =
        Request::post(uri.path_and_query().map_or("/", |path| path.as_str())).body(Full::new(body))?;
    *request.headers_mut() = headers;
    request.headers_mut().insert(HOST, authority.as_str().parse()?);
    let answer = sender.send_request(request).await?;
    let (head, body) = answer.into_parts();
    let mut limited = Limited::new(body, MAX_ANSWER);
    let mut whole = Vec::new();
    while let Some(frame) = limited.frame().await {
        let frame = frame.or_else(|error| failure(format!("the answer broke off: {error}")))?;
        whole.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    connection.abort();
    Ok(Answered {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8_lossy(&whole).into_owned(),
    })
}
