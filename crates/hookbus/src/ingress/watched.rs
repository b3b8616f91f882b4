//! A connection's socket: it notes when bytes arrive, tells which protocol they speak, and explains what the HTTP library
//! refuses on its own.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::{answer::Problem, stream::Stream, work::Connection};
use crate::metrics::Metrics;

/// What a client that speaks HTTP/2 says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket under the HTTP library.
///
/// A head that cannot be parsed never becomes a request: hyper answers it itself, with a status and no body. That
/// answer is replaced by a whole one on its way out, so that every refusal is a problem that says what is wrong.
pub(super) struct Watched {
    stream: Stream,
    connection: Arc<Connection>,
    metrics: Arc<Metrics>,
    /// What was read to tell the protocol, and how much of it; the library gets it first.
    ahead: ([u8; PREFACE.len()], usize),
    /// What is written instead of hyper's answer, and how much of it is.
    instead: Option<(Vec<u8>, usize)>,
    /// The client did not take all of the last write.
    stalled: bool,
}

impl Watched {
    pub(super) fn new(stream: Stream, connection: Arc<Connection>, metrics: Arc<Metrics>) -> Self {
        Self { stream, connection, metrics, ahead: Default::default(), instead: None, stalled: false }
    }

    /// Whether the client speaks HTTP/2, as its first bytes tell. May be dropped and called again.
    pub(super) async fn speaks_http2(&mut self) -> io::Result<bool> {
        loop {
            let (ahead, count) = &mut self.ahead;
            if ahead[..*count] != PREFACE[..*count] {
                return Ok(false);
            }
            if *count == PREFACE.len() {
                return Ok(true);
            }
            let received = self.stream.read(&mut ahead[*count..]).await?;
            if received == 0 {
                return Ok(false);
            }
            *count += received;
            self.connection.received();
            self.metrics.connections.received(received);
        }
    }

    /// Whether a part of an answer is not written yet.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// The socket, and what was read of it to tell the protocol, where nobody has got that.
    pub(super) fn into_parts(self) -> (Stream, Vec<u8>) {
        let (ahead, count) = self.ahead;
        (self.stream, ahead[..count].to_vec())
    }
}

/// The problem for an answer that the HTTP library made: those have no body, all of ours have one.
fn explained(answer: &[u8]) -> Option<Problem> {
    let status = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
    let problem = match status {
        b"400" => Problem::broken_head(),
        b"414" => Problem::uri_too_long(),
        b"431" => Problem::head_too_large(),
        _ => return None,
    };
    let empty = answer.ends_with(b"\r\n\r\n")
        && !answer.windows(13).any(|part| part.eq_ignore_ascii_case(b"content-type:"));
    empty.then_some(problem)
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (ahead, count) = &mut self.ahead;
        if *count > 0 {
            let given = buffer.remaining().min(*count);
            buffer.put_slice(&ahead[..given]);
            ahead.copy_within(given..*count, 0);
            *count -= given;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let received = buffer.filled().len() - before;
        if received > 0 {
            self.connection.received();
            self.metrics.connections.received(received);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, instead, stalled, metrics, .. } = &mut *self;
        if instead.is_none()
            && let Some(problem) = explained(bytes)
        {
            metrics.no_source.answered(problem.answered());
            *instead = Some((problem.raw(), 0));
        }
        // Until all of it is written.
        *stalled = true;
        let Some((answer, written)) = instead else {
            let count = ready!(Pin::new(stream).poll_write(cx, bytes))?;
            *stalled = count < bytes.len();
            return Poll::Ready(Ok(count));
        };
        // hyper hands over the same bytes until they are taken; they are once all of ours are.
        while *written < answer.len() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &answer[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
        *instead = None;
        *stalled = false;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_of_the_library_are_replaced() {
        let reason = |answer: &str| explained(answer.as_bytes()).map(|problem| problem.reason());
        let library =
            "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(reason(library), Some("head_too_large"));
        assert_eq!(reason("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), Some("broken_request"));
        assert_eq!(reason("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), None);
        assert_eq!(reason(std::str::from_utf8(&Problem::broken_head().raw()).unwrap()), None);
        assert_eq!(reason("HTTP"), None);
    }
}
