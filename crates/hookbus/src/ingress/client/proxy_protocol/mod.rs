//! The PROXY protocol, versions 1 and 2: a header in front of all else, by which a proxy says whose connection it
//! passes on.
//!
//! It is read to its last byte and no further, so whatever reads the connection next, TLS or HTTP, finds all that is its
//! own. The specification is HAProxy's `proxy-protocol.txt`.

#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::{io, net::IpAddr};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// So many bytes tell the versions apart; no header is shorter.
const FIRST: usize = 12;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A client's with this address.
    Client(IpAddr),
    /// The proxy's own (it looks whether we are there), or that of a client without an IP address.
    Nobody,
}

/// Why there is no header.
#[derive(Debug, Error)]
pub(crate) enum NoHeader {
    /// It begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// It is not as the specification says.
    #[error("the PROXY header is broken: {0}")]
    Broken(&'static str),
    /// The connection ended, or failed.
    #[error("the connection ended before its PROXY header: {0}")]
    Ended(#[from] io::Error),
}

/// Reads the header at the beginning of a connection. How long that may take is up to the caller.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Named, NoHeader> {
    let mut first = [0; FIRST];
    let mut filled = 0;
    while filled < FIRST {
        match stream.read(&mut first[filled..]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            count => filled += count,
        }
        // Told at once, not when more has come: who sends no header may be waiting for an answer.
        let begun = &first[..filled];
        if !v1::BEGINNING.starts_with(&begun[..filled.min(v1::BEGINNING.len())])
            && !v2::SIGNATURE.starts_with(begun)
        {
            return Err(NoHeader::Missing);
        }
    }
    if first == v2::SIGNATURE { v2::read(stream).await } else { v1::read(stream, &first).await }
}
