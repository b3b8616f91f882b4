//! A loopback proxy that breaks connections on purpose, and exactly.

mod connection;
mod pump;
mod weather;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

use weather::Weather;

/// What goes wrong between a sink and its destination. What was sent before a fault was injected may be hit by it, if
/// it is still on its way; what is sent afterwards is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// All connections are reset, and each new one as soon as it is made.
    Cut,
    /// All connections are reset once so many more bytes have passed in this direction; then all is well again, so
    /// that a driver that reconnects in haste shows what it does.
    CutAfter(Direction, u64),
    /// Connections are made, and nothing passes in either direction. What was held passes when it is over.
    Stall,
    /// The destination hears everything; its answers are held back, beginning after so many more bytes of them. They
    /// pass when it is over.
    HoldAnswers {
        /// Bytes of answers that still pass.
        after: u64,
    },
    /// The destination hears everything; its answers are lost. When it is over the connections are reset, as what
    /// is missing would confuse anybody.
    LoseAnswers,
    /// Each piece of data arrives so much later.
    Delay(Duration),
    /// This direction of all connections, new ones too, is ended in order; the other goes on. What was half-closed
    /// stays so.
    HalfClose(Direction),
    /// Each byte of the answers arrives with its highest bit flipped.
    CorruptAnswers,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the sink to the destination.
    ToDestination,
    /// From the destination to the sink: its answers.
    ToSink,
}

/// A TCP proxy on loopback. It passes everything on until a [`Fault`] is injected. It holds at most 16 KiB per
/// connection and direction; what is not read waits at its sender. It ends when it is dropped, connections included.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    weather: Arc<Weather>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// A proxy at a free port. `upstream` is connected to when somebody connects to the proxy; it need not be there
    /// yet.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), upstream).await
    }

    /// A proxy at this address, for destinations that tell their clients where to connect.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub async fn start_at(listen: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let (address, weather) = (listener.local_addr()?, Arc::new(Weather::new()));
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&weather)));
        Ok(Self { address, weather, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets this go wrong from now on, instead of what went wrong before.
    pub fn inject(&self, fault: Fault) {
        self.weather.turn(Some(fault));
    }

    /// Lets everything pass again.
    pub fn restore(&self) {
        self.weather.turn(None);
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> u64 {
        self.weather.connections()
    }

    /// How many bytes have passed in this direction so far.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.weather.bytes(direction)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Accepts until it is aborted, which ends the connections too.
async fn accept(listener: TcpListener, upstream: SocketAddr, weather: Arc<Weather>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Too many open files, or a client that is gone already: the next one may do.
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(connection::run(client, upstream, Arc::clone(&weather)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
