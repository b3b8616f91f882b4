//! A proxy in front of a bridge: it says whose connection it passes on, each in a way of its own.

use std::net::{IpAddr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

/// How it says so.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Says {
    /// By a line of text in front of all else.
    ProxyV1,
    /// By some bytes in front of all else, with values that nobody needs behind them.
    ProxyV2,
    /// By a header of the first request of each connection.
    Header(fn(IpAddr) -> String),
}

/// The proxy. It ends with this value.
pub(crate) struct Proxy {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Begins to pass on connections to a bridge; they come from `from`.
    pub(crate) async fn start(from: IpAddr, bridge: SocketAddr, says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((client, peer)) = listener.accept().await {
                tokio::spawn(async move {
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.bind((from, 0).into()).unwrap();
                    let bridge = socket.connect(bridge).await.unwrap();
                    pass_on(client, peer, bridge, says).await;
                });
            }
        });
        Self { address, serving }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass_on(mut client: TcpStream, peer: SocketAddr, mut bridge: TcpStream, says: Says) {
    let first = match says {
        Says::ProxyV1 => format!("PROXY TCP4 {} 192.0.2.1 {} 443\r\n", peer.ip(), peer.port()).into_bytes(),
        Says::ProxyV2 => version_2(peer),
        Says::Header(header) => {
            // Behind the headers of the client: it is told by the order which of them the proxy wrote.
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = client.read_u8().await else { return };
                head.push(byte);
            }
            head.truncate(head.len() - 2);
            [head, header(peer.ip()).into_bytes(), b"\r\n\r\n".to_vec()].concat()
        }
    };
    // Either side may hang up whenever it likes.
    if bridge.write_all(&first).await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut bridge).await;
    }
}

/// A header of version 2 for this client.
pub(crate) fn version_2(client: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(client) = client else { panic!("these tests are on IPv4") };
    let values = [4, 0, 3, 0, 0, 0];
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend_from_slice(&18_u16.to_be_bytes());
    header.extend_from_slice(&client.ip().octets());
    header.extend_from_slice(&[192, 0, 2, 1]);
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&443_u16.to_be_bytes());
    header.extend_from_slice(&values);
    header
}
