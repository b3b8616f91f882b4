//! Forwarding headers as proxies send them, and as attackers do.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Client, Proxies, Via};
use crate::config::{ForwardingHeader, Server};

const FORWARDED: &str = "forwarded";
const FOR: &str = "x-forwarded-for";

/// Proxies of 10.0.0.0/8 and 2001:db8:f::/48.
fn proxies(header: Option<ForwardingHeader>) -> Proxies {
    let trusted_proxies = ["10.0.0.0/8", "2001:db8:f::/48"].map(|network| network.parse().unwrap()).into();
    Proxies::new(&Server { trusted_proxies, forwarding_header: header, ..Server::default() })
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    lines.iter().map(pair).collect()
}

fn client_by(header: Option<ForwardingHeader>, peer: &str, lines: &[(&str, &str)]) -> Client {
    let proxies = proxies(header);
    proxies.client(proxies.sender(peer.parse().unwrap()), &headers(lines))
}

/// Checks who is found with these header lines on a connection from 10.0.0.1.
fn check(lines: &[(&str, &str)], address: &str, via: Via) {
    let expected = Client { address: address.parse().unwrap(), via };
    assert_eq!(client_by(None, "10.0.0.1", lines), expected, "{lines:?}");
}

#[test]
fn x_forwarded_for_of_real_proxies() {
    let told = |value, address| check(&[(FOR, value)], address, Via::XForwardedFor);
    // nginx, HAProxy, Envoy, AWS ALB.
    told("203.0.113.7", "203.0.113.7");
    // Behind a client or a proxy that is not ours, which said something already.
    told("192.0.2.1, 203.0.113.7", "203.0.113.7");
    told("unknown, 203.0.113.7", "203.0.113.7");
    // A CDN, then our load balancer, then our nginx.
    told("198.51.100.9, 203.0.113.7, 10.0.3.4, 10.0.0.9", "203.0.113.7");
    // Azure Application Gateway and AWS ALB with `client_port` add the port.
    told("203.0.113.7:52314", "203.0.113.7");
    told("[2001:db8:1::7]:52314", "2001:db8:1::7");
    // IPv6, bare and in brackets, and through another proxy of ours.
    told("2001:db8:1::7", "2001:db8:1::7");
    told("[2001:db8:1::7]", "2001:db8:1::7");
    told("\"[2001:db8:1::7]:80\"", "2001:db8:1::7");
    told("2001:db8:1::7, 2001:db8:f:1::2", "2001:db8:1::7");
    // A dual-stack socket of the proxy.
    told("::ffff:203.0.113.7", "203.0.113.7");
    told("203.0.113.7,::ffff:10.0.0.9", "203.0.113.7");
    // Empty elements and blanks count for nothing.
    told(" 203.0.113.7 ,, 10.0.0.9 , ", "203.0.113.7");
}

#[test]
fn forwarded_of_real_proxies() {
    let told = |value, address| check(&[(FORWARDED, value)], address, Via::Forwarded);
    // The examples of RFC 7239.
    told("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60");
    told("for=192.0.2.43, for=198.51.100.17", "198.51.100.17");
    told("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17");
    told("for=192.0.2.43,for=\"[2001:db8:cafe::17]\",for=unknown, for=192.0.2.9", "192.0.2.9");
    told("for=\"_gazonk\", FOR=192.0.2.9", "192.0.2.9");
    // HAProxy's `option forwarded`, and with a port.
    told("proto=http;for=192.0.2.9", "192.0.2.9");
    told("for=\"192.0.2.9:47011\";host=\"a, b; c\"", "192.0.2.9");
    told("host=\"x\\\"y, for=1.2.3.4\";for=192.0.2.9", "192.0.2.9");
    told("for=\"192.0.2.9:_hidden\"", "192.0.2.9");
    // With blanks and a semicolon at the end, which the grammar does not allow.
    told("for=192.0.2.9; proto=https;", "192.0.2.9");
    // Several proxies of ours.
    told("for=192.0.2.9;by=10.0.0.2, for=10.0.0.2;by=10.0.0.1", "192.0.2.9");
    told("for=192.0.2.9, for=\"[2001:db8:f::3]\"", "192.0.2.9");
    // An escape where none is needed.
    told("for=\"192.0.2.\\9\"", "192.0.2.9");
}

#[test]
fn what_a_proxy_does_not_say_is_not_known() {
    let untold = |name, value| check(&[(name, value)], "10.0.0.1", Via::Untold);
    check(&[], "10.0.0.1", Via::Untold);
    for value in [
        "unknown",
        "_hidden",
        "-",
        "localhost",
        "203.0.113.7:",
        "203.0.113.7:port",
        "203.0.113.7:65536",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "[2001:db8:1::7",
        "[203.0.113.7]",
        "[2001:db8:1::7]80",
        "fe80::1%eth0",
        "1.2.3.4:+1",
        "2001:db8:1::7]",
        "",
        " , ,",
        "203.0.113.7 198.51.100.9",
        "\"203.0.113.7",
        "\"",
        "198.51.100.9, unknown",
    ] {
        untold(FOR, value);
    }
    for value in [
        "for=unknown",
        "for=_hidden",
        "proto=https",
        "by=10.0.0.1",
        "for=",
        "for",
        "203.0.113.7",
        "for=\"203.0.113.7",
        "for=203.0.113.7\"",
        "for=203.0.113.7;for=203.0.113.8",
        "for=203.0.113.7;for=203.0.113.7",
        "for=\"1.2.3.4\\",
        "for=198.51.100.9, for=unknown",
        "for=198.51.100.9, for=203.0.113.7;x",
        "for =203.0.113.7",
        "for=\"1\"2\"",
    ] {
        untold(FORWARDED, value);
    }
    // Nothing to the left of a proxy that does not say is believed, whatever it is.
    check(&[(FOR, "198.51.100.9, unknown, 10.0.0.7")], "10.0.0.7", Via::Untold);
    // All of them ours: the request began at the leftmost, or it did not say.
    check(&[(FOR, "10.0.0.5, 10.0.0.7")], "10.0.0.5", Via::Untold);
}

#[test]
fn what_a_client_writes_is_not_believed() {
    // Each of these is what a client at 203.0.113.7 sent, and what the proxy added.
    for forged in
        ["198.51.100.9", "10.0.0.5", "unknown", "198.51.100.9, 10.0.0.5", "\"", "for=\"", ",,,", "\u{ff}"]
    {
        check(&[(FOR, &format!("{forged}, 203.0.113.7"))], "203.0.113.7", Via::XForwardedFor);
        check(&[(FOR, forged), (FOR, "203.0.113.7")], "203.0.113.7", Via::XForwardedFor);
        check(&[(FOR, forged), (FOR, "203.0.113.7, 10.0.0.9")], "203.0.113.7", Via::XForwardedFor);
    }
    for forged in
        ["for=198.51.100.9", "for=\"", "for=\"\\", "for=\"a\\\\", "for=10.0.0.5;host=\"", "\u{ff}", "\\\""]
    {
        for ours in ["for=203.0.113.7", "for=\"203.0.113.7:80\"", "host=\"a,b\";for=203.0.113.7"] {
            check(&[(FORWARDED, &format!("{forged}, {ours}"))], "203.0.113.7", Via::Forwarded);
            check(&[(FORWARDED, forged), (FORWARDED, ours)], "203.0.113.7", Via::Forwarded);
        }
    }
    // On a connection of its own, without a proxy.
    for lines in
        [&[(FOR, "10.0.0.5")][..], &[(FORWARDED, "for=10.0.0.5")], &[(FOR, "::1"), (FORWARDED, "for=::1")]]
    {
        let client = client_by(None, "203.0.113.7", lines);
        assert_eq!(client, Client { address: "203.0.113.7".parse().unwrap(), via: Via::Connection });
    }
}

#[test]
fn headers_that_contradict_each_other_are_not_believed() {
    let both = [(FORWARDED, "for=198.51.100.9"), (FOR, "203.0.113.7")];
    check(&both, "10.0.0.1", Via::Contradicted);
    check(&[(FORWARDED, "for=unknown"), (FOR, "203.0.113.7")], "10.0.0.1", Via::Contradicted);
    check(&[(FORWARDED, "for=\"203.0.113.7:80\""), (FOR, "203.0.113.7")], "203.0.113.7", Via::Forwarded);
    check(&[(FORWARDED, "proto=https"), (FOR, "")], "10.0.0.1", Via::Untold);
    // Unless the configuration says which one the proxy sets.
    let by = |header| client_by(Some(header), "10.0.0.1", &both);
    let (forwarded, other) = (by(ForwardingHeader::Forwarded), by(ForwardingHeader::XForwardedFor));
    assert_eq!(forwarded, Client { address: "198.51.100.9".parse().unwrap(), via: Via::Forwarded });
    assert_eq!(other, Client { address: "203.0.113.7".parse().unwrap(), via: Via::XForwardedFor });
    let client = client_by(Some(ForwardingHeader::Forwarded), "10.0.0.1", &both[1..]);
    assert_eq!(client.via, Via::Untold);
}

#[test]
fn only_proxies_have_no_share_and_no_allowance() {
    let proxies = proxies(None);
    let sender = |address: &str| proxies.sender(address.parse().unwrap());
    assert_eq!(sender("10.0.0.1").share(), None);
    assert_eq!(sender("::ffff:10.0.0.1").share(), None);
    assert_eq!(sender("2001:db8:1:2:3::4").share(), Some("2001:db8:1:2::".parse().unwrap()));
    let allowance = |lines| client_by(None, "10.0.0.1", lines).allowance();
    assert_eq!(allowance(&[]), None);
    assert_eq!(allowance(&[(FOR, "::ffff:203.0.113.7")]), Some("203.0.113.7".parse().unwrap()));
    assert_eq!(allowance(&[(FOR, "203.0.113.7"), (FORWARDED, "")]), Some("10.0.0.1".parse().unwrap()));
}

#[test]
fn a_client_named_by_a_proxy_header_may_be_a_proxy_itself() {
    let proxies = proxies(None);
    let named = |address: &str| proxies.named(address.parse().unwrap());
    let told = headers(&[(FOR, "203.0.113.7")]);
    let client = proxies.client(named("198.51.100.9"), &told);
    assert_eq!(client, Client { address: "198.51.100.9".parse().unwrap(), via: Via::ProxyProtocol });
    let client = proxies.client(named("10.0.0.5"), &told);
    assert_eq!(client, Client { address: "203.0.113.7".parse().unwrap(), via: Via::XForwardedFor });
}

proptest::proptest! {
    /// Whatever else a request has: who is found is the sender, or stands in an element that every proxy to the right
    /// of it vouches for.
    #[test]
    fn nobody_is_believed_behind_somebody_who_is_not_trusted(
        forged in proptest::collection::vec(0_u8..=255, 0..60),
        client in proptest::sample::select(&["203.0.113.7", "198.51.100.9", "192.0.2.60"][..]),
        ours in 0_usize..4,
        quoted: bool,
        separate: bool,
    ) {
        let Ok(forged) = HeaderValue::from_bytes(&forged) else { return Ok(()) };
        let hop = |address: &str, name: &str| match (name, quoted) {
            (FOR, _) => address.to_owned(),
            (_, true) => format!("for=\"{address}:80\";by=\"a,b\\\"\""),
            (_, false) => format!("for={address}"),
        };
        for (name, via) in [(FOR, Via::XForwardedFor), (FORWARDED, Via::Forwarded)] {
            let mut hops = vec![hop(client, name)];
            hops.extend((0..ours).map(|number| hop(&format!("10.1.0.{number}"), name)));
            let (name, mut lines) = (name.parse::<HeaderName>().unwrap(), HeaderMap::new());
            let hops = hops.join(", ");
            if separate {
                lines.append(&name, forged.clone());
                lines.append(&name, hops.parse().unwrap());
            } else {
                let line = [forged.as_bytes(), b", ", hops.as_bytes()].concat();
                lines.append(&name, HeaderValue::from_bytes(&line).unwrap());
            }
            let proxies = proxies(None);
            let found = proxies.client(proxies.sender("10.0.0.1".parse().unwrap()), &lines);
            proptest::prop_assert_eq!(found, Client { address: client.parse().unwrap(), via });
        }
    }

    /// Anything at all is read without a panic.
    #[test]
    fn nothing_makes_it_panic(lines in proptest::collection::vec((0_u8..2, "[\\x20-\\x7e]{0,80}"), 0..5)) {
        let lines: Vec<_> = lines.iter().map(|(which, value)| {
            (if *which == 0 { FOR } else { FORWARDED }, value.as_str())
        }).collect();
        let found = client_by(None, "10.0.0.1", &lines);
        proptest::prop_assert!(found.via != Via::Connection && found.via != Via::ProxyProtocol);
    }
}
