//! One connection: from a socket to its protocol, and to its end.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{
    Current,
    answer::{Answer, Problem},
    client::greeting,
    connections::Place,
    http2,
    stream::{FAREWELL, Stream},
    tls::Tls,
    watched::Watched,
    work::{Connection, Phase, Work},
};
use crate::metrics::{Answered, Metrics};

/// What the requests of a connection need.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) current: Arc<Current>,
    pub(super) connection: Arc<Connection>,
    pub(super) stopping: Arc<AtomicBool>,
}

/// Serves one connection until it ends or is told to.
pub(super) async fn serve(
    current: Arc<Current>,
    mut stream: TcpStream,
    place: Place,
    stopping: Arc<AtomicBool>,
) {
    // Nothing else of it is kept: a connection may outlive many configurations.
    let (proxies, metrics, tls) = {
        let ingress = current.load();
        (Arc::clone(&ingress.proxies), Arc::clone(&ingress.metrics), ingress.tls.clone())
    };
    let served = Served { current, connection: Arc::clone(&place.connection), stopping };
    // What a proxy says of the client comes before all else, TLS included.
    if !greeting::introduced(&proxies, &metrics.connections, &mut stream, &place).await {
        return;
    }
    let opened = tokio::select! {
        opened = open(&served.connection, tls.as_deref(), &metrics, stream) => opened,
        () = served.connection.end.notified() => None,
    };
    let Some((stream, agreed)) = opened else { return };
    drop(tls);
    let mut watched = Watched::new(stream, Arc::clone(&served.connection), metrics);
    let speaks_http2 = match agreed {
        Some(protocol) => protocol == Protocol::Http2,
        None => tokio::select! {
            told = watched.speaks_http2() => match told {
                Ok(told) => told,
                Err(_) => return,
            },
            () = served.connection.end.notified() => return given_up(&served, watched, &[]).await,
        },
    };
    if speaks_http2 {
        http2::serve(served, watched).await;
    } else {
        http1(served, watched).await;
    }
    // It counts until here.
    drop(place);
}

/// What was agreed on by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Agrees on TLS, where it is spoken here. In clear the first bytes of the client tell its protocol.
async fn open(
    connection: &Connection,
    tls: Option<&Tls>,
    metrics: &Metrics,
    stream: TcpStream,
) -> Option<(Stream, Option<Protocol>)> {
    let Some(tls) = tls else { return Some((Stream::Clear(stream), None)) };
    connection.enter(Phase::Handshake);
    let (stream, protocol) = tls.accept(stream, metrics).await?;
    connection.enter(Phase::New);
    Some((Stream::Tls(Box::new(stream)), Some(protocol)))
}

async fn http1(served: Served, watched: Watched) {
    let headers = served.current.load().limits.headers.as_len();
    let service = service_fn(|request| answer(served.clone(), request));
    // Deadlines are the sweeper's; hyper's own header timeout would set a timer per request.
    let mut http = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size((headers * 2).max(16 << 10))
        .max_header_size(headers)
        .serve_connection(TokioIo::new(watched), service);
    tokio::select! {
        _ = &mut http => return,
        () = served.connection.end.notified() => {}
    }
    if served.connection.is_cut() {
        return;
    }
    if served.connection.phase().0 == Phase::Head {
        let parts = http.into_parts();
        return given_up(&served, parts.io.into_inner(), &parts.read_buf).await;
    }
    Pin::new(&mut http).graceful_shutdown();
    last_answers(&served.connection, &mut http).await;
    if served.connection.phase().0 == Phase::New {
        // The library waits for a first request.
        http.into_parts().io.into_inner().into_parts().0.close().await;
    }
}

/// Answers one request.
pub(super) async fn answer(served: Served, request: http::Request<Incoming>) -> Result<Answer, Infallible> {
    let Served { current, connection, stopping } = served;
    let ingress = current.load_full();
    let mut work = Work::begin(&connection);
    let answer = ingress.handle(request, &stopping, &mut work).await;
    work.answered();
    Ok(answer)
}

/// Lets a connection end that was told to. A request that came at the last moment is still answered, within its own
/// deadlines. A client that does not read its answers is not waited for.
pub(super) async fn last_answers(connection: &Connection, mut http: impl Future + Unpin) {
    while timeout(FAREWELL, &mut http).await.is_err() {
        let at_work = matches!(connection.phase().0, Phase::Body | Phase::Request);
        if !at_work || connection.is_cut() {
            break;
        }
    }
}

/// Says 408 to a client that sent half a head. Not, where what came is no part of one, or where an earlier answer is
/// not read yet: the words would end up inside that.
async fn given_up(served: &Served, watched: Watched, read: &[u8]) {
    let stalled = watched.is_stalled();
    let (stream, ahead) = watched.into_parts();
    if served.connection.is_cut() || served.connection.phase().0 != Phase::Head {
        return;
    }
    served.current.load().metrics.no_source.answered(Answered::RequestTimeout);
    if stalled || [&ahead, read].concat().trim_ascii().is_empty() {
        return;
    }
    stream.say(&Problem::too_slow()).await;
}
