//! The bytes of a connection, with or without TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::answer::Problem;

/// How long a farewell may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// A connection that takes and gives what HTTP is made of.
#[derive(Debug)]
pub(super) enum Stream {
    Clear(TcpStream),
    /// Boxed, because the state of TLS is large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Ends the connection without a word.
    pub(super) async fn close(mut self) {
        let _ = timeout(FAREWELL, self.shutdown()).await;
    }

    /// Says what is wrong to a client of HTTP/1.1 that no request was read from, and ends the connection.
    pub(super) async fn say(mut self, problem: &Problem) {
        let farewell = async {
            self.write_all(&problem.raw()).await?;
            self.shutdown().await?;
            // What the client still sends must not meet a closed socket: the reset would take the words from it.
            let mut rest = [0; 1024];
            while self.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
