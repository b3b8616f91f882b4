//! HTTP/2 on one connection, within limits that a client cannot stretch.
//!
//! What a connection may make us hold: one window of bytes that no request has taken yet, one head of `limits.headers`
//! that is still being received, `limits.streams` requests, and our answers to them, which are short. Bodies draw on the
//! byte budget as they are taken from the window, and they are taken as fast as they come.
//!
//! Floods, by what ends them: streams that are opened and reset at once, by [`Work`](super::work::Work), which
//! counts what the client gives up; streams that are reset before we have looked at them, streams that break the rules,
//! heads in endless pieces, heads that unpack to more than their limit, empty and tiny frames of bodies, by the library
//! (`h2`), which ends the connection; pings and settings by their answers: nothing more is read until they are written.

use std::{pin::pin, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::{
    connection::{Served, answer, last_answers},
    watched::Watched,
};
use crate::config::Limits;

/// How often a client is asked whether it is still there. Its requests have deadlines, and without any it is hung up on
/// after `timeouts.idle`; this is for peers that vanished while they wait for an answer.
const PING: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PONG: Duration = Duration::from_secs(10);
/// Streams a client may open and reset before they were looked at: as many as h2 allows, said here so that it stays.
const RESET_UNSEEN: usize = 20;
/// Streams that may break the rules in the lifetime of a connection.
const BROKEN: usize = 256;
/// What one answer may hold until its client takes it; ours are a tenth of that.
const ANSWER: usize = 8 << 10;
/// The least a window can be: what the protocol begins with.
const LEAST_WINDOW: usize = (1 << 16) - 1;
/// The most it is of use to be: a megabyte under way is 10 MB/s to the other side of the world.
const MOST_WINDOW: usize = 1 << 20;

/// Bytes of bodies that a client may send ahead of what requests take: on one connection, all its streams together.
///
/// All connections together may send ahead as much as bodies may hold (`limits.in-flight`), so that the worst that can
/// lie unread is once more the byte budget: with the defaults 64 MiB / 1024 connections = 64 KiB each, which is also the
/// least there can be. One stream may use all of it: handlers take bodies as they come, so none waits for another.
fn window(limits: &Limits) -> u32 {
    let share = limits.in_flight.as_len() / limits.connections.0;
    share.clamp(LEAST_WINDOW, MOST_WINDOW) as u32
}

/// Serves a connection until it ends or is told to.
pub(super) async fn serve(served: Served, watched: Watched) {
    let connection = served.connection.clone();
    connection.multiplex();
    let (window, headers, streams) = {
        let limits = &served.current.load().limits;
        (window(limits), limits.headers.as_len(), limits.streams.0)
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(u32::try_from(streams).unwrap_or(u32::MAX))
        .max_header_list_size(u32::try_from(headers).unwrap_or(u32::MAX))
        .initial_connection_window_size(window)
        .initial_stream_window_size(window)
        .max_frame_size(16 << 10)
        .max_send_buf_size(ANSWER)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(BROKEN)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    // Boxed, so that an answer that its client does not take holds no more than itself.
    let service = service_fn(move |request| Box::pin(answer(served.clone(), request)));
    let mut http = pin!(builder.serve_connection(TokioIo::new(watched), service));
    tokio::select! {
        _ = &mut http => return,
        () = connection.end.notified() => {}
    }
    if connection.is_cut() {
        return;
    }
    // Says GOAWAY: the client opens no more streams, those it has opened are answered.
    http.as_mut().graceful_shutdown();
    last_answers(&connection, http).await;
}

#[cfg(test)]
mod tests {
    use hookbus_core::units::ByteSize;

    use super::*;

    #[test]
    fn all_windows_together_are_no_more_than_the_byte_budget() {
        let window = |in_flight, connections: usize| {
            let connections = connections.try_into().unwrap();
            let limits =
                Limits { in_flight: ByteSize::from_bytes(in_flight), connections, ..Limits::default() };
            window(&limits)
        };
        assert_eq!(window(64 << 20, 1024), 64 << 10);
        assert_eq!(window(64 << 20, 128), 512 << 10);
        assert_eq!(window(64 << 20, 1), 1 << 20);
        assert_eq!(window(64 << 20, 100_000), (64 << 10) - 1, "the protocol knows no less");
    }
}
