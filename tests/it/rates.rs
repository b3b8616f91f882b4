//! Rate limits: what is refused is charged to its address, what is authentic to its source, and nothing to anybody else.

use std::net::IpAddr;

use crate::support::{Bridge, Client, Figures, Provider, Setup, head, post};

use Provider::FastPix;

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// Three refused requests an hour from each address.
const STRICT: &str = "connections-per-address = 1024, refused-per-address = { rate = \"1/h\", burst = 3 }";

fn at(last: u8) -> IpAddr {
    [127, 0, 4, last].into()
}

fn body(id: &str) -> Vec<u8> {
    format!(r#"{{"id":"{id}","type":"it.event"}}"#).into_bytes()
}

fn genuine(path: &str, id: &str) -> Vec<u8> {
    let signature = FastPix.signature(&body(id));
    post(path, &[(FastPix.header(), &signature)], &body(id))
}

fn forged(path: &str) -> Vec<u8> {
    let signature = FastPix.signature_under(&FastPix.wrong_secret(), b"{}");
    post(path, &[(FastPix.header(), &signature)], b"{}")
}

async fn figures(bridge: &mut Bridge) -> Figures {
    let response = bridge.admin("/metrics").await;
    Figures::parse(std::str::from_utf8(&response.body).unwrap())
}

/// A provider that was away brings what is old; that is refused, and no reason to shut it out.
#[tokio::test]
async fn what_is_genuine_and_late_is_not_charged() {
    let more = "[sources.young]\nprovider = \"fastpix\"\nsecrets = [{ file = \"fastpix.secret\" }]\nack = \"sinks\"\n\
                max-event-age = \"1d\"\n";
    let bridge = Bridge::start(Setup { limits: STRICT, more, ..Setup::default() }).await;
    let mut client = Client::connect_from(at(9), bridge.address()).await.unwrap();
    for number in 0..10 {
        let old = format!(r#"{{"id":"e{number}","type":"it.event","createdAt":"2020-01-01T00:00:00Z"}}"#);
        let signature = FastPix.signature(old.as_bytes());
        let request = post("/hooks/young", &[(FastPix.header(), &signature)], old.as_bytes());
        assert_eq!(client.ask(&request).await.problem(401), "event_too_old");
    }
    for _ in 0..3 {
        assert_eq!(client.ask(&forged("/hooks/young")).await.problem(401), "signature_mismatch");
    }
    assert_eq!(client.ask(&forged("/hooks/young")).await.problem(429), "address_limited");
}

#[tokio::test]
async fn a_source_takes_what_its_rate_allows_and_forged_requests_use_up_none_of_it() {
    let more = "[admin]\nlisten = \"127.0.0.1:0\"\n\
                [sources.slow]\nprovider = \"fastpix\"\nsecrets = [{ file = \"fastpix.secret\" }]\nack = \"sinks\"\n\
                rate-limit = { rate = \"1/h\", burst = 3 }\n";
    let mut bridge = Bridge::start(Setup { more, ..Setup::default() }).await;
    let mut client = bridge.connect().await;
    for _ in 0..50 {
        assert_eq!(client.ask(&forged("/hooks/slow")).await.problem(401), "signature_mismatch");
    }
    for number in 0..3 {
        assert_eq!(client.ask(&genuine("/hooks/slow", &format!("e{number}"))).await.taken(), "accepted");
    }
    // On whatever connection, from whatever address; a forged one is told nothing of it.
    for from in [at(1), at(2)] {
        let mut client = Client::connect_from(from, bridge.address()).await.unwrap();
        let response = client.ask(&genuine("/hooks/slow", "over")).await;
        assert_eq!(response.problem(429), "source_limited");
        let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((3_000..=3_600).contains(&wait), "{wait}");
        assert!(!response.is_last());
        assert_eq!(client.ask(&forged("/hooks/slow")).await.problem(401), "signature_mismatch");
        // Other sources have nothing to do with it.
        let other = genuine("/hooks/fastpix", &format!("{from}"));
        assert_eq!(client.ask(&other).await.taken(), "accepted");
    }
    assert_eq!(bridge.written("slow").len(), 3);
    let figures = figures(&mut bridge).await;
    let count = |answer| figures.get("hookbus_requests_total", &[("source", "slow"), ("answer", answer)]);
    assert_eq!((count("accepted"), count("source_limited"), count("refused")), (3.0, 2.0, 52.0));
}

#[tokio::test]
async fn an_address_that_sends_in_vain_is_told_to_wait_and_no_other() {
    let mut bridge = Bridge::start(Setup { limits: STRICT, more: ADMIN, ..Setup::default() }).await;
    let mut forger = Client::connect_from(at(1), bridge.address()).await.unwrap();
    let mut provider = Client::connect_from(at(2), bridge.address()).await.unwrap();
    for number in 0..20 {
        let response = forger.ask(&forged("/hooks/fastpix")).await;
        if number < 3 {
            assert_eq!(response.problem(401), "signature_mismatch");
        } else {
            assert_eq!(response.problem(429), "address_limited");
            let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
            assert!((3_000..=3_600).contains(&wait), "{wait}");
            assert!(!response.is_last());
        }
        let request = genuine("/hooks/fastpix", &format!("e{number}"));
        assert_eq!(provider.ask(&request).await.taken(), "accepted");
    }
    // Not even what it signs is looked at, on no connection and for no source.
    let mut again = Client::connect_from(at(1), bridge.address()).await.unwrap();
    assert_eq!(again.ask(&genuine("/hooks/fastpix", "signed")).await.problem(429), "address_limited");
    assert_eq!(again.ask(&forged("/hooks/fastgen")).await.problem(429), "address_limited");
    assert_eq!(bridge.written("fastpix").len(), 20);
    let figures = figures(&mut bridge).await;
    let count = |answer| figures.get("hookbus_requests_total", &[("source", "fastpix"), ("answer", answer)]);
    assert_eq!((count("accepted"), count("refused"), count("address_limited")), (20.0, 3.0, 18.0));
}

#[tokio::test]
async fn an_address_that_has_proved_itself_is_not_limited() {
    let bridge = Bridge::start(Setup { limits: STRICT, ..Setup::default() }).await;
    // A provider's machine, by which somebody else's hooks are sent to us too.
    let mut client = Client::connect_from(at(1), bridge.address()).await.unwrap();
    assert_eq!(client.ask(&genuine("/hooks/fastpix", "first")).await.taken(), "accepted");
    for _ in 0..20 {
        assert_eq!(client.ask(&forged("/hooks/fastpix")).await.problem(401), "signature_mismatch");
    }
    assert_eq!(client.ask(&genuine("/hooks/fastpix", "last")).await.taken(), "accepted");
}

#[tokio::test]
async fn all_that_a_client_brings_about_is_in_vain() {
    let bridge = Bridge::start(Setup { limits: STRICT, ..Setup::default() }).await;
    let mut client = Client::connect_from(at(1), bridge.address()).await.unwrap();
    assert_eq!(client.ask(&post("/hooks/nobody", &[], b"{}")).await.problem(404), "not_found");
    let get = b"GET /hooks/fastpix HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(client.ask(get).await.problem(405), "method_not_allowed");
    let large = head("/hooks/fastpix", &[("content-length", "99999999"), ("expect", "100-continue")]);
    assert_eq!(client.ask(&large).await.problem(413), "body_too_large");
    client.ended().await;
    // Said before the body: who asks whether to send it hears so first.
    let mut client = Client::connect_from(at(1), bridge.address()).await.unwrap();
    let signature = FastPix.signature(b"{}");
    let headers =
        [(FastPix.header(), signature.as_str()), ("content-length", "2"), ("expect", "100-continue")];
    assert_eq!(client.ask(&head("/hooks/fastpix", &headers)).await.problem(429), "address_limited");
    client.ended().await;
}
