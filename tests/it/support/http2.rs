//! A client of HTTP/2, by a library, for requests that are in order.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

use super::{PATIENCE, Provider, Response, Trust, http::in_time, wire::Wire};

/// A connection.
pub(crate) struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Http2 {
    /// Connects in clear and says at once that this is HTTP/2.
    pub(crate) async fn connect(address: SocketAddr) -> hyper::Result<Self> {
        Self::over(Wire::Tcp(TcpStream::connect(address).await.unwrap())).await
    }

    /// Connects by TLS.
    pub(crate) async fn connect_tls(address: SocketAddr, trust: &Trust) -> hyper::Result<Self> {
        Self::over(Wire::Tls(Box::new(in_time(trust.connect(address)).await.unwrap()))).await
    }

    async fn over(wire: Wire) -> hyper::Result<Self> {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(wire)).await?;
        Ok(Self { sender, driver: tokio::spawn(connection) })
    }

    /// Sends a request once there is room for it, and receives its response.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> hyper::Result<Response> {
        let mut sender = self.sender.clone();
        let response = async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, 1 << 20);
            let mut body = std::pin::pin!(body);
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| *error.downcast::<hyper::Error>().unwrap())?;
                bytes.extend_from_slice(frame.data_ref().unwrap());
            }
            Ok(Response::new(&head, &bytes.into()))
        };
        timeout(PATIENCE, response).await.expect("there is no answer")
    }

    /// Sends a genuine event.
    pub(crate) async fn event(&self, provider: Provider, body: &[u8]) -> hyper::Result<Response> {
        self.send(request(provider, &provider.signature(body), body)).await
    }

    /// Waits until the other side has ended the connection, and returns what the library says of it.
    pub(crate) async fn ended(self) -> hyper::Result<()> {
        timeout(PATIENCE, self.driver).await.expect("it does not end").unwrap()
    }
}

impl Provider {
    /// A request with this signature.
    pub(crate) fn http2(self, signature: &str, body: &[u8]) -> Request<Full<Bytes>> {
        request(self, signature, body)
    }
}

fn request(provider: Provider, signature: &str, body: &[u8]) -> Request<Full<Bytes>> {
    let request = Request::builder().method(Method::POST).uri(format!("http://localhost{}", provider.path()));
    let request = request.header(provider.header(), signature).header("content-type", "application/json");
    request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
}
