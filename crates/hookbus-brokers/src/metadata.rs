//! Asks a Kafka which brokers there are: the Metadata request, version 4, written by hand.

use std::{
    io::{self, Read, Write as _},
    net::{SocketAddr, TcpStream},
};

use crate::{Error, Result, contact::TIME, error::Doing as _};

/// Length; then key 3, version 4, correlation id 1, client id null; then no topics, and none to be created.
const REQUEST: [u8; 19] = [0, 0, 0, 15, 0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0];

/// Whether the broker at this address lists itself. An open port says less: it may still be reading its log.
pub(crate) fn lists(address: SocketAddr) -> Result<()> {
    let doing = || format!("ask {address} for its brokers");
    let mut stream = TcpStream::connect_timeout(&address, TIME).doing(doing)?;
    stream.set_read_timeout(Some(TIME)).doing(doing)?;
    stream.write_all(&REQUEST).doing(doing)?;
    let ports = ports(&mut stream).doing(doing)?;
    if ports.contains(&i32::from(address.port())) {
        return Ok(());
    }
    Err(Error::Refused(format!("lists brokers at the ports {ports:?} instead of its own")))
}

/// The ports of the brokers in an answer: length, correlation id, throttle time, then the brokers.
fn ports(from: &mut impl Read) -> io::Result<Vec<i32>> {
    number(from)?;
    number(from)?;
    number(from)?;
    let count = number(from)?;
    let ports = (0..count).map(|_| {
        let _node = number(from)?;
        skip_text(from)?;
        let port = number(from)?;
        skip_text(from)?;
        Ok(port)
    });
    ports.collect()
}

fn number(from: &mut impl Read) -> io::Result<i32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(i32::from_be_bytes(bytes))
}

/// A length in two bytes, -1 for null, and the text.
fn skip_text(from: &mut impl Read) -> io::Result<()> {
    let mut length = [0; 2];
    from.read_exact(&mut length)?;
    let length = u64::try_from(i16::from_be_bytes(length)).unwrap_or(0);
    io::copy(&mut from.take(length), &mut io::sink()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_counts_itself() {
        assert_eq!(usize::from(REQUEST[3]) + 4, REQUEST.len());
    }

    #[test]
    fn ports_of_all_brokers_are_read() {
        let mut answer = vec![0; 12];
        answer.extend([0, 0, 0, 2]);
        answer.extend(b"\0\0\0\x01\0\x02ab\0\0\x23\x84\xff\xff");
        answer.extend(b"\0\0\0\x02\0\x01c\0\0\0\x07\0\x03xyz");
        assert_eq!(ports(&mut answer.as_slice()).unwrap(), [9092, 7]);
        assert!(ports(&mut &answer[..20]).is_err());
    }
}
