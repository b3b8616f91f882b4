//! From proxy to proxy: the forwarding headers of a request, read from right to left.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};

use super::forwarded::{self, Node};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where the walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// The last address that is known.
    pub(super) address: IpAddr,
    /// It is the first that is not trusted: the client's. Else the proxy there did not say who sent it this.
    pub(super) told: bool,
}

pub(super) fn has_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
}

pub(super) fn has_x_forwarded_for(headers: &HeaderMap) -> bool {
    headers.contains_key(X_FORWARDED_FOR)
}

/// Follows `Forwarded`, beginning with who sent the request.
pub(super) fn forwarded(headers: &HeaderMap, from: IpAddr, trusts: impl Fn(IpAddr) -> bool) -> Walked {
    walk(lines(headers, &FORWARDED).flat_map(forwarded::from_the_right), from, trusts)
}

/// Follows `X-Forwarded-For`, beginning with who sent the request.
pub(super) fn x_forwarded_for(headers: &HeaderMap, from: IpAddr, trusts: impl Fn(IpAddr) -> bool) -> Walked {
    walk(lines(headers, &X_FORWARDED_FOR).flat_map(forwarded::list_from_the_right), from, trusts)
}

/// The lines of a header, last one first. A proxy adds to the last one, or a line of its own behind it.
fn lines<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers.get_all(name).iter().rev().map(HeaderValue::as_bytes)
}

/// Each node is believed only because the one before it is trusted. An element that names nobody ends the walk, and what
/// stands to its left is not looked at.
fn walk(nodes: impl Iterator<Item = Node>, from: IpAddr, trusts: impl Fn(IpAddr) -> bool) -> Walked {
    let mut address = from;
    for node in nodes {
        let Node::Address(named) = node else { break };
        address = named.to_canonical();
        if !trusts(address) {
            return Walked { address, told: true };
        }
    }
    Walked { address, told: false }
}
