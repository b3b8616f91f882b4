//! Accepting connections, and letting them end in order.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at},
};

use super::{Current, Socket, answer::Problem, connection, connections::Connections, stream::Stream};
use crate::config::{Limits, Timeouts};

/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// How long an open connection may still bring a request after we were asked to stop; its answer is then the last.
const LAST_REQUEST: Duration = Duration::from_millis(500);
/// How long to wait after the system refused to accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);
/// Connections taken in while stopping, at most: what the kernel keeps waiting.
const BACKLOG: usize = 4096;
/// Connections turned away at once while at the limit.
const TURNED_AWAY: usize = 64;

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Nothing once it is closed.
    socket: Option<Socket>,
    /// Others to listen at instead.
    sockets: mpsc::Receiver<Socket>,
    current: Arc<Current>,
    connections: Arc<Connections>,
    stopping: Arc<AtomicBool>,
    turned_away: Arc<tokio::sync::Semaphore>,
}

/// What may change while a listener serves.
#[derive(Debug)]
pub(crate) struct Rebind {
    sockets: mpsc::Sender<Socket>,
    connections: Arc<Connections>,
}

impl Rebind {
    /// New connections come by this socket; what waits in the one before is taken in, and those that are open stay.
    pub(crate) async fn listen(&self, socket: Socket) {
        // A listener that has ended needs none.
        let _ = self.sockets.send(socket).await;
    }

    /// These limits and deadlines hold from now on.
    pub(crate) fn limit(&self, limits: &Limits, timeouts: &Timeouts) {
        self.connections.set(limits, timeouts);
    }
}

/// How the connections ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Connections that were cut because they took longer than the grace period.
    pub(crate) cut: usize,
}

impl Listener {
    /// Listens at a socket, and answers by what is current.
    pub(crate) fn new(socket: Socket, current: Arc<Current>) -> (Self, Rebind) {
        let connections = {
            let ingress = current.load();
            Connections::new(&ingress.limits, &ingress.timeouts, &ingress.metrics.connections)
        };
        let turned_away = Arc::new(tokio::sync::Semaphore::new(TURNED_AWAY));
        let (others, sockets) = mpsc::channel(1);
        let rebind = Rebind { sockets: others, connections: Arc::clone(&connections) };
        let stopping = Arc::default();
        (Self { socket: Some(socket), sockets, current, connections, stopping, turned_away }, rebind)
    }

    /// Serves until `stop` is there, then ends in order.
    ///
    /// What the kernel has accepted for us is served to the end: connections that wait are taken in, those that are
    /// open may bring one more request, and each answer is then the last of its connection. All of that takes no
    /// longer than the grace period.
    pub(crate) async fn serve(mut self, stop: impl Future<Output = ()>) -> Stopped {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // After a failed accept the kernel would report the same at once, for ever: the next one waits.
        let mut not_before = None;
        tokio::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = sweep.tick() => self.connections.sweep(),
                Some(socket) = self.sockets.recv() => {
                    self.take_in_waiting();
                    self.socket = Some(socket);
                }
                () = sleep_until(not_before.unwrap_or_else(Instant::now)), if not_before.is_some() => not_before = None,
                accepted = accept(self.socket.as_ref()), if not_before.is_none() => match accepted {
                    Ok((stream, peer)) => self.open(stream, peer),
                    Err(error) if is_clients(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, open = self.connections.count(), "cannot accept connections");
                        not_before = Some(Instant::now() + ACCEPT_AGAIN);
                    }
                },
            }
        }
        self.finish().await
    }

    fn open(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(place) = self.connections.admit(self.current.load().proxies.sender(peer.ip())) else {
            return self.turn_away(stream);
        };
        // Answers are small and complete: waiting for more to send with them only delays them.
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection::serve(Arc::clone(&self.current), stream, place, Arc::clone(&self.stopping)));
    }

    /// Says 503 to a connection that there is no place for.
    fn turn_away(&self, stream: TcpStream) {
        let current = self.current.load();
        current.metrics.connections.turned_away();
        // Where even that is too much, the connection is closed without a word.
        let Ok(permit) = Arc::clone(&self.turned_away).try_acquire_owned() else { return };
        let tls = current.tls().cloned();
        tokio::spawn(async move {
            match tls {
                Some(tls) => tls.turn_away(stream, &Problem::busy()).await,
                None => Stream::Clear(stream).say(&Problem::busy()).await,
            }
            drop(permit);
        });
    }

    /// Takes in what the kernel has accepted already, and closes the socket.
    fn take_in_waiting(&mut self) {
        // What waits in a socket that others have too is theirs.
        let own = self.socket.take().filter(|socket| !socket.inherited);
        let Some(socket) = own.and_then(|socket| socket.listener.into_std().ok()) else { return };
        // The socket does not block: it says `WouldBlock` when nobody waits any more. Bounded, because clients may come
        // faster than this goes.
        for _ in 0..BACKLOG {
            let (stream, peer) = match socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if is_clients(&error) => continue,
                Err(_) => break,
            };
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.open(stream, peer);
            }
        }
    }

    async fn finish(mut self) -> Stopped {
        self.stopping.store(true, Ordering::Release);
        let deadline = Instant::now() + self.current.load().timeouts.grace.get();
        self.take_in_waiting();
        self.connections.end_multiplexed();
        let drained = async {
            let last_request = sleep(LAST_REQUEST);
            tokio::pin!(last_request);
            let mut over = false;
            while self.connections.count() > 0 {
                tokio::select! {
                    () = self.connections.ended.notified() => {}
                    () = &mut last_request, if !over => {
                        over = true;
                        self.connections.end_idle();
                    }
                    () = sleep(SWEEP), if over => {
                        self.connections.end_idle();
                        self.connections.sweep();
                    }
                }
            }
        };
        let _ = timeout_at(deadline, drained).await;
        Stopped { cut: self.connections.cut() }
    }
}

/// Whether accepting failed because that one client went away.
fn is_clients(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// The next connection; none ever comes from a closed socket.
async fn accept(socket: Option<&Socket>) -> io::Result<(TcpStream, SocketAddr)> {
    match socket {
        Some(socket) => socket.listener.accept().await,
        None => std::future::pending().await,
    }
}
