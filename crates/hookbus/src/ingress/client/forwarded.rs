//! The grammar of `Forwarded` (RFC 7239) and of `X-Forwarded-For`, read from the right.
//!
//! From the right, because the right end is what the nearest proxy wrote. What a client put before that may be anything,
//! an open quotation mark included; read from the left it could swallow what the proxy said.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
};

/// Whom an element names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// This address.
    Address(IpAddr),
    /// Nobody: `unknown`, a name made up to hide one, or nothing that can be read.
    Nobody,
}

/// The nodes that the elements of a line of `Forwarded` are `for`, from right to left.
pub(super) fn from_the_right(line: &[u8]) -> impl Iterator<Item = Node> {
    elements(line, End::Quoted).map(|element| node_of(element).unwrap_or(Node::Nobody))
}

/// The nodes of a line of `X-Forwarded-For`, from right to left.
pub(super) fn list_from_the_right(line: &[u8]) -> impl Iterator<Item = Node> {
    // Some proxies quote IPv6 addresses here as they would in the other header.
    elements(line, End::Plain).map(|element| match element {
        [b'"', inner @ .., b'"'] => node(inner),
        _ => node(element),
    })
}

/// Where an element ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At each comma.
    Plain,
    /// At each comma outside of quotation marks.
    Quoted,
}

/// The elements of a list that are not empty, from right to left.
fn elements(line: &[u8], end: End) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    let all = std::iter::from_fn(move || {
        let whole = rest?;
        let comma = match end {
            End::Plain => whole.iter().rposition(|byte| *byte == b','),
            End::Quoted => last_outside_quotes(whole, b','),
        };
        rest = comma.map(|comma| &whole[..comma]);
        Some(whole[comma.map_or(0, |comma| comma + 1)..].trim_ascii())
    });
    all.filter(|element| !element.is_empty())
}

/// The last such byte that no quotation marks enclose, as seen from the right. Where a mark is open to the left, there
/// is none.
fn last_outside_quotes(text: &[u8], wanted: u8) -> Option<usize> {
    let mut quoted = false;
    for at in (0..text.len()).rev() {
        match text[at] {
            // Inside, a mark behind an odd number of backslashes is text.
            b'"' if quoted => {
                let escapes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                quoted = escapes % 2 == 1;
            }
            b'"' => quoted = true,
            byte if byte == wanted && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// The node an element of `Forwarded` is `for`; nothing, where it does not say or cannot be read.
fn node_of(element: &[u8]) -> Option<Node> {
    let (mut found, mut rest) = (None, Some(element));
    while let Some(whole) = rest {
        let semicolon = last_outside_quotes(whole, b';');
        rest = semicolon.map(|semicolon| &whole[..semicolon]);
        let pair = whole[semicolon.map_or(0, |semicolon| semicolon + 1)..].trim_ascii();
        // Some proxies end their elements with a semicolon.
        if pair.is_empty() {
            continue;
        }
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        // Each may be there only once.
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
    }
    Some(node(&unquoted(found?)?))
}

/// A token as it is, a quoted string without its marks and escapes.
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        return (!value.contains(&b'"')).then_some(Cow::Borrowed(value));
    };
    let inner = inner.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return (!inner.contains(&b'"')).then_some(Cow::Borrowed(inner));
    }
    let (mut text, mut bytes) = (Vec::with_capacity(inner.len()), inner.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => text.push(*bytes.next()?),
            b'"' => return None,
            byte => text.push(*byte),
        }
    }
    Some(Cow::Owned(text))
}

/// An address with or without a port; an IPv6 address in brackets, or bare and then without a port.
fn node(text: &[u8]) -> Node {
    let named = std::str::from_utf8(text).ok().and_then(address);
    named.map_or(Node::Nobody, Node::Address)
}

fn address(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, behind) = rest.split_once(']')?;
        let port = behind.strip_prefix(':');
        let sound = port.map_or(behind.is_empty(), is_port);
        return inner.parse::<Ipv6Addr>().ok().filter(|_| sound).map(IpAddr::V6);
    }
    let bare = || text.parse::<IpAddr>().ok();
    match text.split_once(':') {
        Some((v4, port)) if !port.contains(':') => v4.parse().ok().filter(|_| is_port(port)).map(IpAddr::V4),
        _ => bare(),
    }
}

/// A number, or a name made up to hide one.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}
