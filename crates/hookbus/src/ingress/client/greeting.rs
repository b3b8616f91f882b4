//! The beginning of a connection behind a proxy that speaks the PROXY protocol.

use tokio::net::TcpStream;

use super::Proxies;
use super::proxy_protocol::{self, Named, NoHeader};
use crate::{ingress::connections::Place, metrics::ConnectionMetrics};

/// Reads the PROXY header of a connection that has to begin with one, before anything else is read of it. The time until
/// the first byte of a request includes that.
///
/// False where the connection is to end: a trusted proxy sent no such header, or the client it names has used up its
/// share of the connections. Nothing is said then, because whoever forwards bytes might pass that on as an answer.
pub(in crate::ingress) async fn introduced(
    proxies: &Proxies,
    metrics: &ConnectionMetrics,
    stream: &mut TcpStream,
    place: &Place,
) -> bool {
    let proxy = place.connection.sender();
    if !proxies.expects_header(proxy) {
        return true;
    }
    let read = tokio::select! {
        read = proxy_protocol::read(stream) => read,
        () = place.connection.end.notified() => return false,
    };
    match read {
        Ok(Named::Nobody) => true,
        Ok(Named::Client(address)) => {
            let taken = place.belongs_to(proxies.named(address));
            if !taken {
                metrics.turned_away();
            }
            taken
        }
        // Proxies look whether we are there by connecting and hanging up.
        Err(NoHeader::Ended(_)) => false,
        Err(error @ (NoHeader::Missing | NoHeader::Broken(_))) => {
            metrics.without_proxy_header();
            if let Some(unreported_before) = proxies.complaints.due() {
                let proxy = proxy.address;
                tracing::warn!(%proxy, %error, unreported_before, "connection of a trusted proxy refused");
            }
            false
        }
    }
}
