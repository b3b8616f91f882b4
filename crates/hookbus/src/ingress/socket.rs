//! Bound sockets: our own, or one that somebody keeps open over our restarts.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) listener: TcpListener,
    /// Whoever passed it has it too: connections that wait in it are for those who come after us.
    pub(super) inherited: bool,
}

impl Socket {
    /// Binds an address.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, inherited: false })
    }

    /// Uses a socket that was passed to this process.
    pub(crate) fn inherited(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { listener: TcpListener::from_std(socket)?, inherited: true })
    }

    /// The address it listens at.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The socket itself, where it does not matter who else has it.
    pub(crate) fn into_listener(self) -> TcpListener {
        self.listener
    }
}
