//! Version 1: a line of text, `PROXY TCP4 203.0.113.7 192.0.2.1 56324 443`.

use std::{net::IpAddr, str::FromStr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{FIRST, Named, NoHeader};

/// What it begins with.
pub(super) const BEGINNING: &[u8] = b"PROXY ";
/// The longest line with its end, as the specification counts it.
const LONGEST: usize = 107;

/// Reads the rest of a line whose first bytes are there.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    first: &[u8; FIRST],
) -> Result<Named, NoHeader> {
    let mut line = [0; LONGEST];
    line[..FIRST].copy_from_slice(first);
    let mut filled = FIRST;
    while !line[..filled].ends_with(b"\r\n") {
        // Never more than the end of the line takes at least: what follows is not ours.
        let needed = if line[filled - 1] == b'\r' { 1 } else { 2 };
        let end = filled + needed;
        if end > LONGEST {
            return Err(NoHeader::Broken("its line is longer than 107 bytes"));
        }
        stream.read_exact(&mut line[filled..end]).await?;
        filled = end;
        if line[..filled].contains(&b'\n') && !line[..filled].ends_with(b"\r\n") {
            return Err(NoHeader::Broken("its line does not end in CR LF"));
        }
    }
    parse(&line[BEGINNING.len()..filled - 2])
}

/// What the line says behind its first word.
fn parse(line: &[u8]) -> Result<Named, NoHeader> {
    let line = std::str::from_utf8(line).map_err(|_| NoHeader::Broken("its line is not text"))?;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    let client = match family {
        // Whatever stands behind it is to be ignored.
        "UNKNOWN" => return Ok(Named::Nobody),
        "TCP4" => address::<std::net::Ipv4Addr>(&mut words).map(IpAddr::V4),
        "TCP6" => address::<std::net::Ipv6Addr>(&mut words).map(IpAddr::V6),
        _ => return Err(NoHeader::Broken("its family is not TCP4, TCP6 or UNKNOWN")),
    };
    let client = client.ok_or(NoHeader::Broken("it has no two addresses of its family"))?;
    let ports = words.next().is_some_and(is_port) && words.next().is_some_and(is_port);
    if !ports || words.next().is_some() {
        return Err(NoHeader::Broken("it has no two ports at its end"));
    }
    Ok(Named::Client(client.to_canonical()))
}

/// The source; the destination must be there too.
fn address<'l, A: FromStr>(words: &mut impl Iterator<Item = &'l str>) -> Option<A> {
    let source = words.next()?.parse().ok()?;
    words.next()?.parse::<A>().ok().map(|_| source)
}

fn is_port(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0')) && text.parse::<u16>().is_ok()
}
