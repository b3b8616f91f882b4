//! Version 2: sixteen bytes, the addresses, and values that we have no use for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{FIRST, Named, NoHeader};

/// What it begins with.
pub(super) const SIGNATURE: [u8; FIRST] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A kind of addresses, by the upper half of the family byte.
#[derive(Clone, Copy)]
enum Family {
    Unspecified,
    V4,
    V6,
    Unix,
}

impl Family {
    /// The bytes of both addresses and both ports.
    fn length(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::V4 => 12,
            Self::V6 => 36,
            Self::Unix => 216,
        }
    }
}

/// Reads what follows the signature.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Named, NoHeader> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        0x22..=0x2f => return Err(NoHeader::Broken("its command is not LOCAL or PROXY")),
        _ => return Err(NoHeader::Broken("its version is not 2")),
    };
    // Of a LOCAL connection all that follows is to be ignored, the family too.
    if is_local {
        skip(stream, length).await?;
        return Ok(Named::Nobody);
    }
    let is_stream = match family & 0x0f {
        0 | 2 => false,
        1 => true,
        _ => return Err(NoHeader::Broken("its transport is not known")),
    };
    let family = match family >> 4 {
        0 => Family::Unspecified,
        1 => Family::V4,
        2 => Family::V6,
        3 => Family::Unix,
        _ => return Err(NoHeader::Broken("its address family is not known")),
    };
    let Some(values) = length.checked_sub(family.length()) else {
        return Err(NoHeader::Broken("it is too short for its addresses"));
    };
    let client: Option<IpAddr> = match family {
        // A client of a datagram is nobody's connection.
        _ if !is_stream => None,
        Family::V4 => Some(Ipv4Addr::from(source(stream).await?).into()),
        Family::V6 => Some(Ipv6Addr::from(source(stream).await?).into()),
        Family::Unspecified | Family::Unix => None,
    };
    let read = client.map_or(0, |client| if client.is_ipv4() { 4 } else { 16 });
    skip(stream, family.length() - read + values).await?;
    Ok(client.map_or(Named::Nobody, |client| Named::Client(client.to_canonical())))
}

/// The source address, which comes first.
async fn source<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N], NoHeader> {
    let mut source = [0; N];
    stream.read_exact(&mut source).await?;
    Ok(source)
}

/// Reads so many bytes away, in little memory: a header may announce 64 KiB.
async fn skip(stream: &mut (impl AsyncRead + Unpin), mut left: usize) -> Result<(), NoHeader> {
    let mut bytes = [0; 512];
    while left > 0 {
        let piece = left.min(bytes.len());
        stream.read_exact(&mut bytes[..piece]).await?;
        left -= piece;
    }
    Ok(())
}
