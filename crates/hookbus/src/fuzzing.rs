//! What fuzz targets reach of the inside: compiled for them alone.

use std::{
    net::IpAddr,
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::HeaderMap;

use crate::{
    config::Server,
    ingress::client::{
        Proxies,
        proxy_protocol::{self, Named},
    },
};

/// Whom the PROXY header names that these bytes begin with, and how many of them it has. Nothing where they begin with
/// none, or it is not whole.
pub fn proxy_header(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    let mut rest = bytes;
    let read = {
        let reading = pin!(proxy_protocol::read(&mut rest));
        // Bytes in memory are there at once.
        let Poll::Ready(read) = reading.poll(&mut Context::from_waker(Waker::noop())) else { return None };
        read.ok()?
    };
    let named = match read {
        Named::Client(address) => Some(address),
        Named::Nobody => None,
    };
    Some((named, bytes.len() - rest.len()))
}

/// Who a request with these headers comes from on a connection from `peer`, and how that is known.
pub fn client(server: &Server, peer: IpAddr, headers: &HeaderMap) -> (IpAddr, &'static str) {
    let proxies = Proxies::new(server);
    let client = proxies.client(proxies.sender(peer), headers);
    (client.address, client.via.as_str())
}
