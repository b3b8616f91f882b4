//! HTTP/1.1 as bytes: whatever a test wants to send, and the answers to it.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, split},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{PATIENCE, tls::Trust, until, wire::Wire};

/// A connection.
pub(crate) struct Client {
    stream: Wire,
    /// Received, but not yet part of a response.
    ahead: Vec<u8>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = in_time(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: Wire::Tcp(stream), ahead: Vec::new() })
    }

    /// Connects and shakes hands.
    pub(crate) async fn connect_tls(address: SocketAddr, trust: &Trust) -> io::Result<Self> {
        let stream = in_time(trust.connect(address)).await?;
        Ok(Self { stream: Wire::Tls(Box::new(stream)), ahead: Vec::new() })
    }

    /// Connects from an address of this machine.
    pub(crate) async fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = in_time(socket.connect(to)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: Wire::Tcp(stream), ahead: Vec::new() })
    }

    /// Connects with little room for answers, so that few fill it.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let stream = in_time(socket.connect(address)).await?;
        Ok(Self { stream: Wire::Tcp(stream), ahead: Vec::new() })
    }

    /// Sends the same again and again and reads nothing, until the other side takes no more of it for a
    /// second.
    pub(crate) async fn send_until_stuck(&mut self, bytes: &[u8]) {
        let bytes = bytes.repeat(100);
        while let Ok(Ok(())) = timeout(Duration::from_secs(1), self.stream.write_all(&bytes)).await {}
    }

    /// Waits until the other side takes no more because it has ended the connection, whatever it sent before.
    pub(crate) async fn hung_up(&mut self) {
        let gone =
            || self.stream.tcp().try_write(b"x").is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
        until("the connection is ended", gone).await;
    }

    /// The address of the other side.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.stream.tcp().peer_addr().unwrap()
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        in_time(self.stream.shutdown()).await
    }

    /// Sends these bytes, all of them.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time(self.stream.write_all(bytes)).await
    }

    /// Sends as much of it as the other side takes, while listening for its answer; that ends the sending.
    /// Returns how many bytes the kernel took, and the answer.
    pub(crate) async fn send_until_answered(
        &mut self,
        mut piece: impl FnMut() -> Option<Vec<u8>>,
    ) -> (usize, io::Result<Response>) {
        let mut sent = 0;
        let mut read = Vec::new();
        let (mut reader, mut writer) = split(&mut self.stream);
        let sending = async {
            while let Some(bytes) = piece() {
                // Cut off by an answer: what it says comes out below.
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
                sent += bytes.len();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sending => {}
            _ = in_time(reader.read_buf(&mut read)) => {}
        }
        self.ahead.append(&mut read);
        (sent, self.receive().await)
    }

    /// Receives the next response. [`ErrorKind::UnexpectedEof`] where the connection ends before it.
    pub(crate) async fn receive(&mut self) -> io::Result<Response> {
        in_time(async {
            loop {
                if let Some((response, length)) = parse(&self.ahead)? {
                    self.ahead.drain(..length);
                    return Ok(response);
                }
                if self.stream.read_buf(&mut self.ahead).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
        })
        .await
    }

    /// Sends a request and receives its response.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Response {
        self.send(request).await.unwrap();
        self.receive().await.unwrap()
    }

    /// Waits until the other side has ended the connection; there must be nothing more from it.
    pub(crate) async fn ended(&mut self) {
        let ended = in_time(self.stream.read_buf(&mut self.ahead)).await;
        match ended {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("expected the end: {other:?}"),
        }
        assert_eq!(String::from_utf8_lossy(&self.ahead), "");
    }

    /// Whether the other side has ended the connection by now, without waiting.
    pub(crate) fn has_ended(&self) -> bool {
        let mut byte = [0];
        match self.stream.tcp().try_read(&mut byte) {
            Ok(count) => {
                assert_eq!(count, 0, "something was received that nobody asked for");
                true
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

impl Response {
    /// One that a library received.
    pub(crate) fn new(head: &http::response::Parts, body: &Bytes) -> Self {
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
        };
        let headers = head.headers.iter().map(header).collect();
        Self { status: head.status.as_u16(), headers, body: body.to_vec() }
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the connection ends behind it.
    pub(crate) fn is_last(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Checks that an event was taken over, and returns what the answer says of it.
    pub(crate) fn taken(&self) -> String {
        assert_eq!((self.status, self.header("content-type")), (200, Some("application/json")), "{self:?}");
        self.json()["status"].as_str().unwrap().to_owned()
    }

    /// Checks that it is a problem with this status and returns its reason.
    pub(crate) fn problem(&self, status: u16) -> String {
        let content_type = Some("application/problem+json");
        assert_eq!((self.status, self.header("content-type")), (status, content_type), "{self:?}");
        let problem = self.json();
        let reason = problem["reason"].as_str().unwrap().to_owned();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:hookbus:{reason}"));
        reason
    }
}

/// The head of a POST, its empty line included.
pub(crate) fn head(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    head.into_bytes()
}

/// A whole POST with the length of its body.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let headers = [headers, &[("content-length", &length)]].concat();
    [&head(path, &headers), body].concat()
}

/// One chunk of a body in chunks; the empty one is the last.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Reads a response and says how many bytes it has, or nothing where its end has not arrived.
fn parse(bytes: &[u8]) -> io::Result<Option<(Response, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let broken = || io::Error::new(ErrorKind::InvalidData, String::from_utf8_lossy(bytes).into_owned());
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| broken())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status: u16 = status.ok_or_else(broken)?;
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let headers = headers.collect::<Option<Vec<_>>>().ok_or_else(broken)?;
    let mut response = Response { status, headers, body: Vec::new() };
    let length = match response.header("content-length") {
        Some(length) => length.parse().map_err(|_| broken())?,
        // An interim response has no body, nor has one without content; every other one of ours states its length.
        None if status < 200 || status == 204 => 0_usize,
        None => return Err(broken()),
    };
    let body = end + 4;
    if bytes.len() < body + length {
        return Ok(None);
    }
    response.body = bytes[body..body + length].to_vec();
    Ok(Some((response, body + length)))
}

pub(crate) async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, step).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}
