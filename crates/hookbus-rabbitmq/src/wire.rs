//! The socket below a connection: opened on the driver's thread, and cut from outside.

use std::{
    io, mem,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

/// A second handle of a connection's socket, which cuts it when it is dropped.
///
/// The driver has a thread for each connection, which ends when its peer says something or is found dead by a
/// heartbeat. A peer that accepts and then says nothing would keep it, and its buffers, for as long as it likes; and
/// what waits in them would still be sent after its call has given up. Shutting the socket down ends both at once.
#[derive(Default)]
pub(crate) struct Wire(End);

/// Where the driver's thread leaves the socket it opened.
#[derive(Clone, Default)]
pub(crate) struct End(Arc<Mutex<Socket>>);

#[derive(Default)]
enum Socket {
    #[default]
    NotYet,
    Open(TcpStream),
    Cut,
}

impl Wire {
    pub(crate) fn end(&self) -> End {
        self.0.clone()
    }
}

impl End {
    /// Notes the socket of a connection that is being made.
    ///
    /// # Errors
    /// Where nobody waits for it any more.
    pub(crate) fn attach(&self, stream: &impl AsFd) -> io::Result<()> {
        let handle = stream.as_fd().try_clone_to_owned()?;
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*socket, Socket::Cut) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *socket = Socket::Open(handle.into());
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut socket = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Socket::Open(stream) = mem::replace(&mut *socket, Socket::Cut) {
            // Fails where the peer was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, net::TcpListener};

    use super::*;

    #[test]
    fn a_wire_that_is_dropped_is_cut_whenever_its_socket_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (wire, stream) = (Wire::default(), connect());
        let (mut peer, _) = listener.accept().unwrap();
        wire.end().attach(&stream).unwrap();
        let end = wire.end();
        drop(wire);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "although the first handle is still open");
        assert!(end.attach(&connect()).is_err());
    }
}
