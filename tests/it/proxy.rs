//! Behind a proxy: what a trusted one says of its clients counts, and what anybody else says of himself does not.

use std::net::{IpAddr, SocketAddr};

use hookbus_core::{Scheme, verify::ToSign};

use crate::support::{
    Bridge, Client, Figures, Provider, Proxy, Response, Says, Setup, post, until, version_2,
};

use Provider::FastPix;

/// The proxy that is trusted.
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));

/// Two refused requests an hour from each address.
const STRICT: &str = "connections-per-address = 1024, refused-per-address = { rate = \"1/h\", burst = 2 }";

/// An address of this machine.
fn at(third: u8, last: u8) -> IpAddr {
    [127, 0, third, last].into()
}

fn genuine(id: &str) -> Vec<u8> {
    FastPix.request(format!(r#"{{"id":"{id}","type":"it.event"}}"#).as_bytes())
}

/// A request with a signature under the wrong key, and these headers besides.
fn forged(headers: &[(&str, &str)]) -> Vec<u8> {
    let signature = FastPix.signature_under(&FastPix.wrong_secret(), b"{}");
    post(&FastPix.path(), &[&[(FastPix.header(), signature.as_str())], headers].concat(), b"{}")
}

/// Sends one request over a connection of its own.
async fn ask(from: IpAddr, to: SocketAddr, request: &[u8]) -> Response {
    Client::connect_from(from, to).await.unwrap().ask(request).await
}

/// Checks that this client may send two requests in vain, with headers that change nothing, and no more.
async fn has_an_allowance_of_two(from: IpAddr, to: SocketAddr, headers: &[[(&str, &str); 1]; 3]) {
    for headers in &headers[..2] {
        assert_eq!(ask(from, to, &forged(headers)).await.problem(401), "signature_mismatch", "{headers:?}");
    }
    let response = ask(from, to, &forged(&headers[2])).await;
    assert_eq!(response.problem(429), "address_limited");
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
}

fn x_forwarded_for(client: IpAddr) -> String {
    format!("X-Forwarded-For: {client}")
}

fn forwarded(client: IpAddr) -> String {
    format!("Forwarded: for=\"{client}:4711\";proto=https")
}

const NO_HEADERS: [[(&str, &str); 1]; 3] = [[("x-nothing", "")]; 3];

#[tokio::test]
async fn the_forwarding_headers_of_a_trusted_proxy_are_believed_and_no_others() {
    let server = "trusted-proxies = [\"127.0.0.9\"]";
    let mut bridge = Bridge::start(Setup { server, limits: STRICT, ..Setup::default() }).await;
    let proxy = Proxy::start(PROXY, bridge.address(), Says::Header(x_forwarded_for)).await;
    // Whoever the client says it was before that.
    let lies = [
        [("x-forwarded-for", "127.0.3.1")],
        [("x-forwarded-for", "127.0.3.2, 127.0.0.9")],
        [("x-forwarded-for", "\"")],
    ];
    has_an_allowance_of_two(at(1, 1), proxy.address(), &lies).await;
    let line = bridge.logged("request refused").await;
    assert_eq!(
        (&line["fields"]["client"], &line["fields"]["via"]),
        (&"127.0.1.1".into(), &"x-forwarded-for".into())
    );
    // The one that is limited is; the others are not, the one it lied about neither.
    assert_eq!(ask(at(1, 1), proxy.address(), &genuine("limited")).await.problem(429), "address_limited");
    for client in [at(1, 2), at(3, 1)] {
        assert_eq!(ask(client, proxy.address(), &genuine(&client.to_string())).await.taken(), "accepted");
    }
    // Through a proxy that writes the other header the same client is still the same.
    let other = Proxy::start(PROXY, bridge.address(), Says::Header(forwarded)).await;
    assert_eq!(ask(at(1, 1), other.address(), &forged(&[])).await.problem(429), "address_limited");
    // One that sends the header which the proxy does not set hides its address, and has one allowance with all who do.
    let hides =
        [[("forwarded", "for=127.0.3.3")], [("forwarded", "for=127.0.3.4")], [("forwarded", "for=unknown")]];
    has_an_allowance_of_two(at(1, 4), proxy.address(), &hides).await;
    assert_eq!(ask(at(1, 5), proxy.address(), &genuine("another")).await.taken(), "accepted");
    bridge.logged("Forwarded and X-Forwarded-For name different clients").await;
    // And one that is no proxy of ours speaks for nobody.
    has_an_allowance_of_two(at(2, 1), bridge.address(), &lies).await;
    assert_eq!(ask(at(3, 2), proxy.address(), &genuine("not-spoken-for")).await.taken(), "accepted");
}

#[tokio::test]
async fn without_trusted_proxies_nobody_is_believed() {
    let bridge = Bridge::start(Setup { limits: STRICT, ..Setup::default() }).await;
    let proxy = Proxy::start(PROXY, bridge.address(), Says::Header(x_forwarded_for)).await;
    for client in [at(1, 1), at(1, 2)] {
        assert_eq!(ask(client, proxy.address(), &forged(&[])).await.problem(401), "signature_mismatch");
    }
    assert_eq!(ask(at(1, 3), proxy.address(), &forged(&[])).await.problem(429), "address_limited");
}

#[tokio::test]
async fn the_proxy_protocol_of_a_trusted_proxy_is_believed_in_both_versions() {
    let server = "trusted-proxies = [\"127.0.0.8/31\"]\nproxy-protocol = true";
    let bridge = Bridge::start(Setup { server, limits: STRICT, ..Setup::default() }).await;
    let one = Proxy::start(PROXY, bridge.address(), Says::ProxyV1).await;
    let two = Proxy::start(PROXY, bridge.address(), Says::ProxyV2).await;
    let lies = [
        [("x-forwarded-for", "127.0.3.1")],
        [("forwarded", "for=127.0.3.2")],
        [("x-forwarded-for", "127.0.3.3")],
    ];
    has_an_allowance_of_two(at(1, 1), one.address(), &lies).await;
    assert_eq!(ask(at(1, 1), two.address(), &forged(&[])).await.problem(429), "address_limited");
    has_an_allowance_of_two(at(1, 2), two.address(), &lies).await;
    for (id, proxy) in [("v1", &one), ("v2", &two)] {
        // Several requests on one connection, as with any other client.
        let mut client = Client::connect_from(at(1, 3), proxy.address()).await.unwrap();
        for number in 0..3 {
            assert_eq!(client.ask(&genuine(&format!("{id}-{number}"))).await.taken(), "accepted");
        }
    }
    // What a client itself sends of the kind stands behind the proxy's, where HTTP should begin.
    let own = [version_2((at(3, 1), 1).into()), genuine("own")].concat();
    for proxy in [&one, &two] {
        assert_eq!(ask(at(1, 4), proxy.address(), &own).await.problem(400), "broken_request");
    }
    // The proxy looks whether anybody is there: its own connection.
    let local = [b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), genuine("local")].concat();
    assert_eq!(ask(PROXY, bridge.address(), &local).await.taken(), "accepted");
}

#[tokio::test]
async fn a_proxy_header_of_anybody_else_is_broken_http() {
    let server = "trusted-proxies = [\"127.0.0.9\"]\nproxy-protocol = true";
    let bridge = Bridge::start(Setup { server, ..Setup::default() }).await;
    let plain =
        Bridge::start(Setup { server: "trusted-proxies = [\"127.0.0.9\"]", ..Setup::default() }).await;
    let header = version_2((at(3, 1), 4711).into());
    for header in [&header[..], b"PROXY TCP4 127.0.3.1 192.0.2.1 4711 443\r\n"] {
        let request = [header, &genuine("pretended")].concat();
        // From somebody who is not trusted, and from a proxy that is not configured to send one.
        for (from, bridge) in [(at(2, 1), &bridge), (PROXY, &plain)] {
            assert_eq!(ask(from, bridge.address(), &request).await.problem(400), "broken_request");
        }
    }
    assert_eq!(ask(at(2, 1), bridge.address(), &genuine("direct")).await.taken(), "accepted");
}

#[tokio::test]
async fn a_trusted_proxy_without_its_header_is_hung_up_on() {
    let server = "trusted-proxies = [\"127.0.0.9\"]\nproxy-protocol = true";
    let more = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    let setup = Setup { server, timeouts: "first-byte = \"1s\"", more, ..Setup::default() };
    let mut bridge = Bridge::start(setup).await;
    let header = version_2((at(1, 1), 4711).into());
    let broken = [&header[..13], &[0x41], &header[14..]].concat();
    for wrong in [&genuine("no-header")[..], b"PROXY TCP5 what is this\r\n", &broken] {
        let mut client = Client::connect_from(PROXY, bridge.address()).await.unwrap();
        client.send(wrong).await.unwrap();
        client.ended().await;
    }
    let line = bridge.logged("connection of a trusted proxy refused").await;
    assert_eq!(line["fields"]["proxy"], "127.0.0.9");
    // Half of one, and then nothing; and one that looks whether anybody is there, and hangs up.
    let mut slow = Client::connect_from(PROXY, bridge.address()).await.unwrap();
    slow.send(&header[..20]).await.unwrap();
    slow.ended().await;
    let mut gone = Client::connect_from(PROXY, bridge.address()).await.unwrap();
    gone.finish().await.unwrap();
    gone.ended().await;
    let response = bridge.admin("/metrics").await;
    let figures = Figures::parse(std::str::from_utf8(&response.body).unwrap());
    assert_eq!(figures.get("hookbus_http_connections_without_proxy_header_total", &[]), 3.0);
}

#[tokio::test]
async fn the_share_of_connections_is_the_clients_and_not_the_proxys() {
    let limits = "connections = 64, connections-per-address = 2";
    let server = "trusted-proxies = [\"127.0.0.9\"]\nproxy-protocol = true";
    let named = Bridge::start(Setup { server, limits, ..Setup::default() }).await;
    let header =
        Bridge::start(Setup { server: "trusted-proxies = [\"127.0.0.9\"]", limits, ..Setup::default() })
            .await;
    let v2 = Proxy::start(PROXY, named.address(), Says::ProxyV2).await;
    let http = Proxy::start(PROXY, header.address(), Says::Header(x_forwarded_for)).await;
    let open = |from, to: SocketAddr, id: String| async move {
        let mut client = Client::connect_from(from, to).await.unwrap();
        assert_eq!(client.ask(&genuine(&id)).await.taken(), "accepted");
        client
    };
    // Many clients of one proxy, each within its share.
    let (mut others, mut behind) = (Vec::new(), Vec::new());
    for number in 1..=10 {
        others.push(open(at(1, number), v2.address(), format!("other-{number}")).await);
        behind.push(open(at(1, 1), http.address(), format!("behind-{number}")).await);
    }
    // One with more than that: its own go, in their order.
    let mut many = Vec::new();
    for number in 0..5 {
        many.push(open(at(2, 1), v2.address(), format!("many-{number}")).await);
    }
    until("those over the share are closed", || many[..3].iter().all(Client::has_ended)).await;
    for (number, client) in many[3..].iter_mut().chain(&mut others).enumerate() {
        assert_eq!(client.ask(&genuine(&format!("again-{number}"))).await.taken(), "accepted");
    }
    // Who a header names is known too late for that: the proxy has as many connections as it likes.
    assert!(!behind.iter().any(Client::has_ended));
}

#[tokio::test]
async fn the_url_that_is_signed_is_the_configured_one_whatever_a_proxy_says() {
    const PUBLIC: &str = "https://hooks.example.com/hooks/square";
    let more = "[sources.square]\nprovider = \"square\"\nsecrets = [{ file = \"fastgen.secret\" }]\nack = \"sinks\"\n\
                public-url = \"https://hooks.example.com/hooks/square\"\n";
    let server = "trusted-proxies = [\"127.0.0.9\"]";
    let bridge = Bridge::start(Setup { server, more, ..Setup::default() }).await;
    let scheme = Scheme::built_in("square").unwrap();
    let secret = Provider::Fastgen.secret();
    let body = br#"{"event_id":"s1","type":"it.event"}"#;
    let request = |url| {
        let to_sign = ToSign {
            secret: &secret,
            method: &http::Method::POST,
            url,
            id: "",
            event_type: "",
            now: std::time::SystemTime::now(),
            body,
        };
        let signed = scheme.sign(to_sign).unwrap();
        let mut headers: Vec<_> =
            signed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        headers.extend([
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.example.com"),
            ("forwarded", "for=203.0.113.7;host=evil.example.com;proto=http"),
        ]);
        post("/hooks/square", &headers, body)
    };
    for from in [PROXY, at(2, 1)] {
        for url in [
            "http://evil.example.com/hooks/square",
            "http://localhost/hooks/square",
            "https://hooks.example.com/",
        ] {
            let response = ask(from, bridge.address(), &request(url)).await;
            assert_eq!(response.problem(401), "signature_mismatch", "{url}");
        }
    }
    assert_eq!(ask(PROXY, bridge.address(), &request(PUBLIC)).await.taken(), "accepted");
    assert_eq!(ask(at(2, 1), bridge.address(), &request(PUBLIC)).await.taken(), "duplicate");
    assert_eq!(bridge.written("square").len(), 1);
}

#[tokio::test]
async fn every_address_of_a_request_in_vain_has_an_allowance_of_its_own() {
    let bridge = Bridge::start(Setup { limits: STRICT, ..Setup::default() }).await;
    for last in 1..=3 {
        has_an_allowance_of_two(at(1, last), bridge.address(), &NO_HEADERS).await;
    }
}
