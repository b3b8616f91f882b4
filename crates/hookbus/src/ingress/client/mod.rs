//! Who a request comes from, when proxies pass it on.
//!
//! The connection says who sends: the address at its other end, or, where a trusted proxy begins it with a PROXY header,
//! the address in that. Where the sender is a trusted proxy, the forwarding headers of each request are followed from
//! right to left, from proxy to proxy, up to the first address that is not trusted: whatever stands to the left of it
//! was written by somebody whose word counts for nothing.

mod forwarded;
pub(in crate::ingress) mod greeting;
pub(crate) mod proxy_protocol;
#[cfg(test)]
mod tests;
mod walk;

use std::{fmt, net::IpAddr};

use http::HeaderMap;

use self::walk::Walked;
use super::seldom::Seldom;
use crate::config::{ForwardingHeader, Network, Server, one_customer};

/// Whom to believe, and what.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    trusted: Vec<Network>,
    header: Option<ForwardingHeader>,
    protocol: bool,
    /// Of headers that are not as they have to be.
    complaints: Seldom,
}

/// Who sends on a connection: a client, or a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    address: IpAddr,
    /// The address was in a PROXY header.
    named: bool,
    /// It is a trusted proxy.
    trusted: bool,
}

/// Who a request comes from, as far as that can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address; where the proxies do not say it, the address of the last one that is known.
    pub(crate) address: IpAddr,
    /// How that is known.
    pub(crate) via: Via,
}

/// How the address of a client is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// It is the other end of the connection.
    Connection,
    /// A trusted proxy said so in a PROXY header.
    ProxyProtocol,
    /// Trusted proxies said so in `Forwarded`.
    Forwarded,
    /// Trusted proxies said so in `X-Forwarded-For`.
    XForwardedFor,
    /// It is not: the last proxy that is known did not say whose request this is.
    Untold,
    /// It is not: `Forwarded` and `X-Forwarded-For` name different clients.
    Contradicted,
}

impl Proxies {
    /// As configured.
    pub(crate) fn new(server: &Server) -> Self {
        Self {
            trusted: server.trusted_proxies.clone(),
            header: server.forwarding_header,
            protocol: server.proxy_protocol,
            complaints: Seldom::default(),
        }
    }

    /// Who sends on a connection with this address at its other end.
    pub(crate) fn sender(&self, peer: IpAddr) -> Sender {
        Sender { address: peer.to_canonical(), named: false, trusted: self.trusts(peer) }
    }

    /// Who sends on a connection whose PROXY header has this address.
    pub(crate) fn named(&self, address: IpAddr) -> Sender {
        Sender { named: true, ..self.sender(address) }
    }

    /// Whether the connections of this sender begin with a PROXY header.
    pub(crate) fn expects_header(&self, sender: Sender) -> bool {
        self.protocol && sender.trusted
    }

    /// Who a request with these headers comes from.
    pub(crate) fn client(&self, sender: Sender, headers: &HeaderMap) -> Client {
        // Not as it was when the connection began: whom to believe may have been configured anew.
        if !self.trusts(sender.address) {
            let via = if sender.named { Via::ProxyProtocol } else { Via::Connection };
            return Client { address: sender.address, via };
        }
        let trusts = |address| self.trusts(address);
        let forwarded = || walk::forwarded(headers, sender.address, trusts);
        let x_forwarded_for = || walk::x_forwarded_for(headers, sender.address, trusts);
        let (Walked { address, told }, via) = match self.header {
            Some(ForwardingHeader::Forwarded) => (forwarded(), Via::Forwarded),
            Some(ForwardingHeader::XForwardedFor) => (x_forwarded_for(), Via::XForwardedFor),
            None if !walk::has_forwarded(headers) => (x_forwarded_for(), Via::XForwardedFor),
            None if !walk::has_x_forwarded_for(headers) => (forwarded(), Via::Forwarded),
            // A proxy that sets one of them may let the other pass as the client wrote it, and nothing tells which.
            None if forwarded() != x_forwarded_for() => {
                if let Some(unreported_before) = self.complaints.due() {
                    let proxy = sender.address;
                    let message =
                        "Forwarded and X-Forwarded-For name different clients: set `forwarding-header`";
                    tracing::warn!(%proxy, unreported_before, "{message}");
                }
                return Client { address: sender.address, via: Via::Contradicted };
            }
            None => (forwarded(), Via::Forwarded),
        };
        Client { address, via: if told { via } else { Via::Untold } }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

impl From<IpAddr> for Sender {
    /// A client that nobody passed on.
    fn from(address: IpAddr) -> Self {
        Self { address: address.to_canonical(), named: false, trusted: false }
    }
}

impl Sender {
    /// The address whose share of the connections this one counts towards; none for a trusted proxy, which opens them
    /// for everybody.
    pub(crate) fn share(self) -> Option<IpAddr> {
        (!self.trusted).then(|| one_customer(self.address))
    }
}

impl Client {
    /// The address whose allowance its refused requests draw on. None where that would be a proxy's, which they all
    /// have in common; but whoever sends headers that contradict each other does so to hide, or is like those who do.
    pub(crate) fn allowance(self) -> Option<IpAddr> {
        (self.via != Via::Untold).then(|| one_customer(self.address))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.via {
            Via::Connection | Via::ProxyProtocol | Via::Forwarded | Via::XForwardedFor => {
                write!(f, "{}", self.address)
            }
            Via::Untold | Via::Contradicted => write!(f, "unknown, behind {}", self.address),
        }
    }
}

impl Via {
    /// In kebab case.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::ProxyProtocol => "proxy-protocol",
            Self::Forwarded => "forwarded",
            Self::XForwardedFor => "x-forwarded-for",
            Self::Untold => "untold",
            Self::Contradicted => "contradicted",
        }
    }
}
