//! What is published arrives, once and unchanged.

use hookbus_core::{Address, Envelope};

use crate::{
    Fixture, Skip, TestEvent,
    stand::{Stand, is_delivered},
};

/// One event arrives.
pub async fn one_event_arrives<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let events = stand.events(&stand.fixture.address(0).await, "one", 1);
    let outcomes = stand.publish(&events, stand.late()).await;
    assert!(is_delivered(&outcomes[0]), "{outcomes:?}");
    stand.arrived_once(&events).await;
    Ok(())
}

/// A thousand events, in batches as large as the sink takes, arrive once each.
pub async fn a_thousand_events_arrive_once<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let events = stand.events(&stand.fixture.address(0).await, "many", 1_000);
    stand.deliver(&events).await;
    stand.arrived_once(&events).await;
    Ok(())
}

/// Events for several addresses in one batch arrive each at its own, and nowhere else.
pub async fn addresses_are_kept_apart<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let mut events = Vec::new();
    for n in 0..3 {
        events.extend(stand.events(&stand.fixture.address(n).await, &format!("to-{n}"), 4));
    }
    // In turns, so that neighbours have different addresses.
    let events: Vec<_> =
        (0..4).flat_map(|n| (0..3).map(move |to| 4 * to + n)).map(|at| events[at].clone()).collect();
    stand.deliver(&events).await;
    stand.arrived_once(&events).await;
    Ok(())
}

/// Whatever bytes a body has, they arrive: a signature covers each of them.
pub async fn bodies_arrive_byte_for_byte<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let address = stand.fixture.address(0).await;
    let all_bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
    let bodies: [(&str, &str, &[u8]); 13] = [
        ("empty", "application/json", b""),
        ("nul", "application/octet-stream", b"\0"),
        ("all-bytes", "application/octet-stream", &all_bytes),
        ("not-utf-8", "application/json", b"{\"name\":\"\xff\xfe\"}"),
        ("newlines", "application/json", b"{\n  \"a\": 1\r\n}\n"),
        ("outer-space", "application/json", b" {\"a\":1} "),
        ("one-newline", "text/plain", b"\n"),
        ("unicode", "application/json", "{\"name\":\"\u{1f3ac} \u{e9}\u{65}\u{301} \u{2028}\"}".as_bytes()),
        ("escapes", "application/json", br#"{"name":"\u00e9\/\ud83c\udfac"}"#),
        ("numbers", "application/json", b"{\"n\":1.0,\"m\":1e2,\"big\":12345678901234567890123}"),
        ("twice", "application/json", br#"{"a":1,"a":2}"#),
        ("form", "application/x-www-form-urlencoded", b"a=1&b=%20&a=2"),
        ("no-json", "application/json", b"{\"a\":"),
    ];
    let event = |(name, content_type, body): (&str, &str, &[u8])| {
        let event = TestEvent::new("webhooks").provider("standard-webhooks").id(name);
        event.content_type(content_type).body(body.to_vec()).build()
    };
    let events = bodies.map(|body| Envelope::new(event(body), address.clone()));
    stand.deliver(&events).await;
    stand.arrived_once(&events).await;
    Ok(())
}

/// Every attribute arrives, whatever text it is, and none appears that was not there.
pub async fn attributes_arrive<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let events = various(&stand.fixture.address(0).await);
    stand.deliver(&events).await;
    stand.arrived_once(&events).await;
    Ok(())
}

/// What arrives is enough to verify it again under the provider's secret, without trusting anybody in between.
pub async fn proofs_verify_again<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let events = various(&stand.fixture.address(0).await);
    stand.deliver(&events).await;
    for observed in stand.arrived_once(&events).await {
        // The kit's sources are named like their providers.
        let source = observed.attributes["source"].trim_start_matches("/hooks/").to_owned();
        let verified = observed.verify_again(&source);
        let verified = verified.unwrap_or_else(|why| panic!("{why}: {observed:?}"));
        assert_eq!(verified.id().as_str(), observed.id(), "the id of what was verified again");
    }
    Ok(())
}

/// Events that differ in what attributes they have.
fn various(address: &Address) -> Vec<Envelope> {
    let fastpix = || TestEvent::new("fastpix");
    let events = [
        fastpix().id("plain"),
        fastpix().id("about").subject("media-1"),
        fastpix()
            .id("unicode-\u{1f3ac}")
            .event_type("video.\u{e9}t\u{e9}")
            .subject("\u{65e5}\u{672c} % = , ; ' x"),
        fastpix().id("spaces in it").subject("a b"),
        fastpix().id("long").subject("s".repeat(500)),
        fastpix().id("charset").content_type("application/json; charset=utf-8"),
        fastpix().id("compressed").content_encoding("gzip"),
        TestEvent::new("standard-webhooks").provider("standard-webhooks").id("msg_1"),
        TestEvent::new("github").provider("github").id("delivery-1").event_type("push"),
    ];
    events.into_iter().map(|event| Envelope::new(event.build(), address.clone())).collect()
}
