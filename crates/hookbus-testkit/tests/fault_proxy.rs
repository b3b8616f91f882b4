//! The fault proxy does to connections what it says, and nothing else.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{io, net::SocketAddr, time::Duration};

use hookbus_testkit::{
    Direction::{ToDestination, ToSink},
    Fault, FaultProxy,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// A proxy, a client that is connected through it, and the other end of that connection.
struct Ends {
    listener: TcpListener,
    proxy: FaultProxy,
    sink: TcpStream,
    destination: TcpStream,
}

impl Ends {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap()).await.unwrap();
        let (sink, destination) = connect(&proxy, &listener).await;
        Self { listener, proxy, sink, destination }
    }

    /// Both directions of a new connection work.
    async fn assert_well(&self) {
        let (mut sink, mut destination) = connect(&self.proxy, &self.listener).await;
        exchange(&mut sink, &mut destination, b"question").await;
        exchange(&mut destination, &mut sink, b"answer").await;
    }
}

async fn connect(proxy: &FaultProxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let sink = TcpStream::connect(proxy.address()).await.unwrap();
    (sink, within(listener.accept()).await.unwrap().0)
}

async fn exchange(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) {
    from.write_all(text).await.unwrap();
    assert_eq!(read(to, text.len()).await, text);
}

async fn read(from: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut read = vec![0; length];
    within(from.read_exact(&mut read)).await.unwrap();
    read
}

/// What comes until the end, and whether that is an orderly one.
async fn rest(from: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut rest = Vec::new();
    let ended = within(from.read_to_end(&mut rest)).await;
    (rest, ended.map(|_| ()))
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), what).await.expect("it never comes")
}

/// Nothing comes, as far as one can wait for that.
async fn assert_silent(from: &mut TcpStream) {
    let read = timeout(Duration::from_millis(100), from.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn everything_passes_and_is_counted() {
    let mut ends = Ends::start().await;
    exchange(&mut ends.sink, &mut ends.destination, b"question").await;
    exchange(&mut ends.destination, &mut ends.sink, b"answer").await;
    assert_eq!(
        (ends.proxy.bytes(ToDestination), ends.proxy.bytes(ToSink), ends.proxy.connections()),
        (8, 6, 1)
    );
    // An end in one direction leaves the other open.
    ends.sink.shutdown().await.unwrap();
    assert!(matches!(rest(&mut ends.destination).await, (rest, Ok(())) if rest.is_empty()));
    exchange(&mut ends.destination, &mut ends.sink, b"late").await;
}

#[tokio::test]
async fn cut() {
    let mut ends = Ends::start().await;
    ends.proxy.inject(Fault::Cut);
    assert!(rest(&mut ends.sink).await.1.is_err(), "a reset, not an end");
    let _ = rest(&mut ends.destination).await;
    // The new connection may be refused, or reset as soon as it is made.
    if let Ok(mut new) = TcpStream::connect(ends.proxy.address()).await {
        assert!(rest(&mut new).await.1.is_err());
    }
    ends.proxy.restore();
    ends.assert_well().await;
}

#[tokio::test]
async fn a_cut_that_is_over_at_once_is_still_one() {
    let mut ends = Ends::start().await;
    ends.proxy.inject(Fault::Cut);
    ends.proxy.restore();
    assert!(rest(&mut ends.sink).await.1.is_err());
}

#[tokio::test]
async fn cut_after_some_bytes_there() {
    let mut ends = Ends::start().await;
    exchange(&mut ends.sink, &mut ends.destination, b"before").await;
    ends.proxy.inject(Fault::CutAfter(ToDestination, 4));
    exchange(&mut ends.destination, &mut ends.sink, b"the other direction does not count").await;
    ends.sink.write_all(b"question").await.unwrap();
    assert_eq!(rest(&mut ends.destination).await.0, b"ques");
    assert!(rest(&mut ends.sink).await.1.is_err());
    ends.assert_well().await;
}

#[tokio::test]
async fn cut_after_some_bytes_back() {
    for (bytes, arrive) in [(0, ""), (3, "ans"), (6, "answer")] {
        let mut ends = Ends::start().await;
        ends.proxy.inject(Fault::CutAfter(ToSink, bytes));
        exchange(&mut ends.sink, &mut ends.destination, b"question").await;
        ends.destination.write_all(b"answer").await.unwrap();
        let (answer, ended) = rest(&mut ends.sink).await;
        assert!(ended.is_err());
        assert_eq!(answer, arrive.as_bytes());
        ends.assert_well().await;
    }
}

#[tokio::test]
async fn stall() {
    let mut ends = Ends::start().await;
    ends.proxy.inject(Fault::Stall);
    ends.sink.write_all(b"question").await.unwrap();
    ends.destination.write_all(b"answer").await.unwrap();
    assert_silent(&mut ends.destination).await;
    assert_silent(&mut ends.sink).await;
    let (mut new, _destination) = connect(&ends.proxy, &ends.listener).await;
    assert_silent(&mut new).await;
    ends.proxy.restore();
    assert_eq!(read(&mut ends.destination, 8).await, b"question");
    assert_eq!(read(&mut ends.sink, 6).await, b"answer");
}

#[tokio::test]
async fn what_is_stalled_waits_at_its_sender() {
    let mut ends = Ends::start().await;
    ends.proxy.inject(Fault::Stall);
    let much = vec![0; 64 << 20];
    let sent = timeout(Duration::from_millis(500), ends.sink.write_all(&much)).await;
    assert!(sent.is_err(), "somebody has taken 64 MiB");
}

#[tokio::test]
async fn hold_answers() {
    let mut ends = Ends::start().await;
    ends.proxy.inject(Fault::HoldAnswers { after: 2 });
    exchange(&mut ends.sink, &mut ends.destination, b"question").await;
    ends.destination.write_all(b"answer").await.unwrap();
    assert_eq!(read(&mut ends.sink, 2).await, b"an");
    assert_silent(&mut ends.sink).await;
    ends.proxy.restore();
    assert_eq!(read(&mut ends.sink, 4).await, b"swer");
}

#[tokio::test]
async fn lose_answers() {
    let mut ends = Ends::start().await;
    ends.proxy.inject(Fault::LoseAnswers);
    exchange(&mut ends.sink, &mut ends.destination, b"question").await;
    ends.destination.write_all(b"answer").await.unwrap();
    assert_silent(&mut ends.sink).await;
    ends.proxy.restore();
    let (answer, ended) = rest(&mut ends.sink).await;
    assert!(answer.is_empty() && ended.is_err());
    ends.assert_well().await;
}

#[tokio::test]
async fn delay() {
    let mut ends = Ends::start().await;
    let time = Duration::from_millis(200);
    ends.proxy.inject(Fault::Delay(time));
    let before = std::time::Instant::now();
    exchange(&mut ends.sink, &mut ends.destination, b"question").await;
    assert!(before.elapsed() >= time);
}

#[tokio::test]
async fn half_close_back() {
    let mut ends = Ends::start().await;
    ends.proxy.inject(Fault::HalfClose(ToSink));
    assert!(matches!(rest(&mut ends.sink).await, (rest, Ok(())) if rest.is_empty()));
    exchange(&mut ends.sink, &mut ends.destination, b"question").await;
    ends.proxy.restore();
    // It stays so: nobody can take back an end.
    ends.destination.write_all(b"answer").await.unwrap();
    assert!(rest(&mut ends.sink).await.0.is_empty());
    ends.assert_well().await;
}

#[tokio::test]
async fn half_close_there() {
    let mut ends = Ends::start().await;
    ends.proxy.inject(Fault::HalfClose(ToDestination));
    assert!(matches!(rest(&mut ends.destination).await, (rest, Ok(())) if rest.is_empty()));
    ends.sink.write_all(b"question").await.unwrap();
    exchange(&mut ends.destination, &mut ends.sink, b"answer").await;
    ends.proxy.restore();
    ends.assert_well().await;
}

#[tokio::test]
async fn corrupt_answers() {
    let mut ends = Ends::start().await;
    ends.proxy.inject(Fault::CorruptAnswers);
    exchange(&mut ends.sink, &mut ends.destination, b"question").await;
    ends.destination.write_all(b"ok\n").await.unwrap();
    assert_eq!(read(&mut ends.sink, 3).await, [b'o' | 0x80, b'k' | 0x80, b'\n' | 0x80]);
    ends.proxy.restore();
    exchange(&mut ends.destination, &mut ends.sink, b"ok\n").await;
}

#[tokio::test]
async fn the_destination_may_come_later() {
    // Bound and not listening yet, so that the port stays ours.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let free = socket.local_addr().unwrap();
    let proxy = FaultProxy::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), free).await.unwrap();
    if let Ok(mut early) = TcpStream::connect(proxy.address()).await {
        assert!(rest(&mut early).await.1.is_err());
    }
    let listener = socket.listen(16).unwrap();
    let (mut sink, mut destination) = connect(&proxy, &listener).await;
    exchange(&mut sink, &mut destination, b"question").await;
}

#[tokio::test]
async fn its_connections_end_with_it() {
    let Ends { mut sink, mut destination, proxy, .. } = Ends::start().await;
    drop(proxy);
    let _ = rest(&mut sink).await;
    let _ = rest(&mut destination).await;
}
