//! Headers as the specification has them and as proxies send them, and what is none.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::*;

/// What lies behind a header in these tests: the beginning of TLS.
const BEHIND: &[u8] = &[0x16, 3, 1, 2, 0, 1];

/// Reads from bytes that are all there, and says how many are left.
fn read_from(mut bytes: &[u8]) -> (Result<Named, NoHeader>, usize) {
    let read = {
        let reading = pin!(read(&mut bytes));
        let Poll::Ready(read) = reading.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("bytes in memory are there at once")
        };
        read
    };
    (read, bytes.len())
}

/// Checks whom a header names, and that it is read to its end and no further.
fn names(header: &[u8], address: Option<&str>) {
    let expected = address.map_or(Named::Nobody, |address| Named::Client(address.parse().unwrap()));
    let (read, left) = read_from(&[header, BEHIND].concat());
    let shown = String::from_utf8_lossy(header);
    assert_eq!((read.expect(&shown), left), (expected, BEHIND.len()), "{shown}");
    for end in 0..header.len() {
        assert!(matches!(read_from(&header[..end]).0, Err(NoHeader::Ended(_))), "{shown} cut at {end}");
    }
}

fn broken(header: &[u8]) {
    let read = read_from(&[header, &[b'x'; 200]].concat()).0;
    assert!(matches!(read, Err(NoHeader::Broken(_))), "{}: {read:?}", String::from_utf8_lossy(header));
}

/// A header of version 2 with these bytes behind its length.
fn v2(command: u8, family: u8, behind: &[&[u8]]) -> Vec<u8> {
    let behind = behind.concat();
    let length = u16::try_from(behind.len()).unwrap().to_be_bytes();
    [&v2::SIGNATURE[..], &[command, family], &length, &behind].concat()
}

const V4: &[u8] = &[203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];
const V6: &[u8] = &[
    0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0x20, 1, 0xd, 0xb8, 0, 0xf, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 1, 0xdc, 4, 1, 0xbb,
];
/// AWS adds the id of the endpoint, HAProxy a checksum and a unique id.
const VALUES: &[u8] = &[0xea, 0, 4, 1, b'v', b'p', b'c', 3, 0, 4, 1, 2, 3, 4, 5, 0, 2, 7, 7];

#[test]
fn version_1() {
    names(b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n", Some("203.0.113.7"));
    names(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255"));
    names(b"PROXY TCP4 1.1.1.1 1.1.1.1 0 1\r\n", Some("1.1.1.1"));
    names(b"PROXY TCP6 2001:db8:1::7 2001:db8:f::1 56324 443\r\n", Some("2001:db8:1::7"));
    names(b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:10.0.0.1 56324 443\r\n", Some("203.0.113.7"));
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    names(format!("PROXY TCP6 {full} {full} 65535 65535\r\n").as_bytes(), Some(full));
    names(b"PROXY UNKNOWN\r\n", None);
    names(format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n").as_bytes(), None);
    names(b"PROXY UNKNOWN whatever \r stands here\r\n", None);
}

#[test]
fn version_2() {
    names(&v2(0x21, 0x11, &[V4]), Some("203.0.113.7"));
    names(&v2(0x21, 0x21, &[V6]), Some("2001:db8:1::7"));
    names(&v2(0x21, 0x11, &[V4, VALUES]), Some("203.0.113.7"));
    names(&v2(0x21, 0x21, &[V6, VALUES]), Some("2001:db8:1::7"));
    names(&v2(0x21, 0x11, &[V4, &[4; 2_000]]), Some("203.0.113.7"));
    // Not a client with an IP address and a connection.
    names(&v2(0x21, 0x31, &[&[b'/'; 216]]), None);
    names(&v2(0x21, 0x31, &[&[b'/'; 216], VALUES]), None);
    names(&v2(0x21, 0x00, &[]), None);
    names(&v2(0x21, 0x00, &[VALUES]), None);
    names(&v2(0x21, 0x12, &[V4]), None);
    // The proxy itself, whatever it adds.
    names(&v2(0x20, 0x00, &[]), None);
    names(&v2(0x20, 0x11, &[V4]), None);
    names(&v2(0x20, 0xff, &[VALUES]), None);
    let (read, left) = read_from(&v2(0x21, 0x11, &[V4, &vec![0; 65_535 - 12]]));
    assert_eq!((read.unwrap(), left), (Named::Client([203, 0, 113, 7].into()), 0));
}

#[test]
fn what_the_specification_does_not_have_is_broken() {
    for line in [
        "PROXY TCP4 203.0.113.7 10.0.0.1 56324\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 56324 443 1\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 56324 65536\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 056324 443\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 +1 443\r\n",
        "PROXY TCP4 203.0.113.7  10.0.0.1 56324 443\r\n",
        "PROXY TCP4 203.0.113.007 10.0.0.1 56324 443\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n",
        "PROXY TCP6 203.0.113.7 10.0.0.1 56324 443\r\n",
        "PROXY TCP4 203.0.113.7 host 56324 443\r\n",
        "PROXY TCP4\r\n",
        "PROXY  TCP4 203.0.113.7 10.0.0.1 56324 443\r\n",
        "PROXY UDP4 203.0.113.7 10.0.0.1 56324 443\r\n",
        "PROXY tcp4 203.0.113.7 10.0.0.1 56324 443\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\n",
        "PROXY UNKNOWN\n\r\n",
        "PROXY \u{ff}\u{ff}\u{ff}\u{ff}\r\n",
    ] {
        broken(line.as_bytes());
    }
    broken(&[b"PROXY UNKNOWN ", &[b' '; 100][..], b"\r\n"].concat());
    broken(&v2(0x11, 0x11, &[V4]));
    broken(&v2(0x31, 0x11, &[V4]));
    broken(&v2(0x22, 0x11, &[V4]));
    broken(&v2(0x21, 0x13, &[V4]));
    broken(&v2(0x21, 0x41, &[V4]));
    broken(&v2(0x21, 0x11, &[&V4[..11]]));
    broken(&v2(0x21, 0x21, &[&V6[..35]]));
    broken(&v2(0x21, 0x31, &[&[0; 215]]));
}

#[test]
fn what_begins_otherwise_has_none() {
    for begun in [
        "GET / HTTP/1.1\r\n",
        "P",
        "POST /hooks/x HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n",
        "\r\n\r\n\0\rQ",
        "\u{16}",
    ] {
        // Only where it cannot become one: `P` may.
        let read = read_from(begun.as_bytes()).0;
        let expected = if begun == "P" { "ended before" } else { "does not begin" };
        assert!(read.unwrap_err().to_string().contains(expected), "{begun:?}");
    }
}

proptest::proptest! {
    /// No bytes make it panic, and what follows a header changes nothing of what it says or where it ends.
    #[test]
    fn anything_is_read_to_the_end_of_its_header_or_refused(
        version in 0_u8..3,
        bytes in proptest::collection::vec(0_u8..=255, 0..300),
    ) {
        let whole = match version {
            0 => bytes,
            1 => [v1::BEGINNING, &bytes].concat(),
            _ => [&v2::SIGNATURE, &bytes[..]].concat(),
        };
        if let (Ok(named), left) = read_from(&whole) {
            let (again, more) = read_from(&[&whole[..whole.len() - left], BEHIND].concat());
            proptest::prop_assert_eq!((again.unwrap(), more), (named, BEHIND.len()));
        }
    }
}
