//! What proxies and clients say of who the client is: no panic, nothing read beyond a PROXY header, and nobody believed
//! behind an address that is not trusted.
//!
//! Input: a letter; `p` and the beginning of a connection, or `x` or `f` and a line that a client sent as
//! `X-Forwarded-For` or `Forwarded`.

#![no_main]

use std::net::IpAddr;

use hookbus::{config::Server, fuzzing};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const PROXY: &str = "10.0.0.1";
const CLIENT: &str = "203.0.113.7";

fuzz_target!(|data: &[u8]| {
    let [kind, said @ ..] = data else { return };
    match kind {
        b'p' => proxy_header(said),
        b'x' => forwarded("x-forwarded-for", "x-forwarded-for", CLIENT, said),
        _ => {
            forwarded("forwarded", "forwarded", "for=203.0.113.7;proto=https", said);
            forwarded("forwarded", "forwarded", "host=\"a,b\";for=\"203.0.113.7:80\"", said);
        }
    }
});

fn proxy_header(bytes: &[u8]) {
    let Some((named, length)) = fuzzing::proxy_header(bytes) else { return };
    assert!((15..=16 + 65_535).contains(&length));
    // What follows changes nothing, and neither does what is not there.
    let followed = [&bytes[..length], b"POST / HTTP/1.1\r\n\r\n"].concat();
    assert_eq!(fuzzing::proxy_header(&followed), Some((named, length)));
    assert_eq!(fuzzing::proxy_header(&bytes[..length]), Some((named, length)));
    assert_eq!(fuzzing::proxy_header(&bytes[..length - 1]), None);
}

/// Whatever a client said before: the proxy behind it is believed, and what it said is not.
fn forwarded(name: &'static str, via: &str, added: &str, said: &[u8]) {
    let Ok(said) = HeaderValue::from_bytes(said) else { return };
    let name = HeaderName::from_static(name);
    let proxy: IpAddr = PROXY.parse().expect("an address");
    let client: IpAddr = CLIENT.parse().expect("an address");
    let server = Server { trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")], ..Server::default() };
    let mut alone = HeaderMap::new();
    alone.insert(&name, said.clone());
    // As it is, from a proxy that adds nothing and from a stranger.
    fuzzing::client(&server, proxy, &alone);
    assert_eq!(fuzzing::client(&server, client, &alone), (client, "connection"));
    let mut lines = alone;
    lines.append(&name, HeaderValue::from_str(added).expect("a value"));
    assert_eq!(fuzzing::client(&server, proxy, &lines), (client, via));
    let joined = [said.as_bytes(), b", ", added.as_bytes()].concat();
    let joined = HeaderMap::from_iter([(name, HeaderValue::from_bytes(&joined).expect("a value"))]);
    assert_eq!(fuzzing::client(&server, proxy, &joined), (client, via));
}
