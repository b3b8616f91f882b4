//! One connection: HTTP/1.1 on a socket that tells when bytes arrive.

use std::{
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::{
    Ingress,
    answer::Problem,
    client::greeting,
    connections::{Phase, Place},
    watched::Watched,
};
use crate::metrics::Answered;

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves one connection until it ends or is told to.
pub(super) async fn serve(
    ingress: Arc<Ingress>,
    mut stream: TcpStream,
    place: Place,
    stopping: Arc<AtomicBool>,
) {
    let (proxies, metrics) = (Arc::clone(&ingress.proxies), &ingress.metrics.connections);
    if !greeting::introduced(&proxies, metrics, &mut stream, &place).await {
        return;
    }
    let connection = Arc::clone(&place.connection);
    let watched = Watched::new(stream, Arc::clone(&connection), Arc::clone(&ingress.metrics));
    let headers = ingress.limits.headers.as_len();
    let service = service_fn(|request| {
        let (ingress, connection, stopping) = (Arc::clone(&ingress), &connection, &stopping);
        connection.enter(Phase::Request);
        async move {
            let answer = ingress.handle(request, stopping, connection).await;
            connection.answered();
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    // Deadlines are the sweeper's; hyper's own header timeout would set a timer per request.
    let mut http = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size((headers * 2).max(16 << 10))
        .max_header_size(headers)
        .serve_connection(TokioIo::new(watched), service);
    tokio::select! {
        _ = &mut http => return,
        () = place.connection.end.notified() => {}
    }
    if place.connection.is_cut() {
        return;
    }
    if place.connection.phase().0 == Phase::Head {
        ingress.metrics.no_source.answered(Answered::RequestTimeout);
        return say_too_slow(http.into_parts()).await;
    }
    Pin::new(&mut http).graceful_shutdown();
    // A request that came at the last moment is still answered, within its own deadlines. A client that does not read
    // its answers is not waited for.
    while timeout(FAREWELL, &mut http).await.is_err() {
        let at_work = matches!(place.connection.phase().0, Phase::Body | Phase::Request);
        if !at_work || place.connection.is_cut() {
            break;
        }
    }
}

/// Says 408 to a client that sent half a head. Not, where what came is no part of one, or where an earlier answer is
/// not read yet: the words would end up inside that.
async fn say_too_slow<S>(parts: http1::Parts<TokioIo<Watched>, S>) {
    let watched = parts.io.into_inner();
    if parts.read_buf.trim_ascii().is_empty() || watched.is_stalled() {
        return;
    }
    let mut stream = watched.into_stream();
    let farewell = async {
        stream.write_all(&Problem::too_slow().raw()).await?;
        stream.shutdown().await
    };
    let _ = timeout(FAREWELL, farewell).await;
}
