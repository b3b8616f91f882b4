//! How old an event may be, and what a scheme says of its times and attributes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hookbus_core::{
    Redaction, Refusal, RequestHead, Scheme, Secret, Verifier,
    verify::{Examined, ToSign},
};
use http::{HeaderMap, Method};

/// Base64, so that it is a secret of every HMAC scheme.
const SECRET: &str = "SP4Umnt/wSL85lTRRZk+1GcuiGVN6moztz1VETQKKrQ=";

/// Monday, 12 January 2026, 06:43:20.5 UTC.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_768_200_200_500)
}

/// Whether an event of this body, which a scheme signed at [`now`], is taken so long after it.
fn taken(scheme: &str, body: &str, max_age: u64, after: i64) -> Result<(), Refusal> {
    let (rules, secret) = (Scheme::built_in(scheme).expect("it is built in"), Secret::new(SECRET));
    let to_sign = ToSign {
        secret: &secret,
        method: &Method::POST,
        url: "",
        id: "delivery-1",
        event_type: "push",
        now: now(),
        body: body.as_bytes(),
    };
    let headers: HeaderMap = rules.sign(to_sign).expect("the secret fits").into_iter().collect();
    let (verifier, _) = Verifier::new("in", rules, None, &[secret]);
    let verifier = verifier.max_event_age(Some(Duration::from_secs(max_age)));
    let by = Duration::from_secs(after.unsigned_abs());
    let arrives = if after < 0 { now() - by } else { now() + by };
    match verifier.examine(RequestHead { method: &Method::POST, query: None, headers: &headers })? {
        Examined::Claim(claim) => claim.verify(Bytes::copy_from_slice(body.as_bytes()), arrives).map(|_| ()),
        Examined::MaybeProbe(_) | Examined::Handshake(_) => panic!("it is signed"),
    }
}

#[test]
fn an_event_older_than_its_source_takes_is_refused_to_the_second() {
    // Of 06:43:14, so six seconds old when it is signed.
    let fastpix = r#"{"type":"t","createdAt":"2026-01-12T06:43:14.430451085Z"}"#;
    let old = Err(Refusal::EventTooOld);
    for (scheme, body, after, expected) in [
        ("fastpix", fastpix, 54, Ok(())),
        ("fastpix", fastpix, 55, old),
        ("fastpix", fastpix, -3600, Ok(())),
        // No time of its own and none of the signature: nothing to go by.
        ("fastpix", "{}", 1_000_000, Ok(())),
        ("fastpix", r#"{"createdAt":"yesterday"}"#, 1_000_000, Ok(())),
        // The time of the signature, where the event has none; what is older than the scheme's window is refused for that.
        ("standard-webhooks", "{}", 60, Ok(())),
        ("standard-webhooks", "{}", 61, old),
        ("standard-webhooks", "{}", 301, Err(Refusal::TimestampTooOld)),
        // The event's own, however fresh the signature is.
        ("standard-webhooks", r#"{"timestamp":"2026-01-12T06:42:20Z"}"#, 0, Ok(())),
        ("standard-webhooks", r#"{"timestamp":"2026-01-12T06:42:19.9Z"}"#, 0, old),
        ("standard-webhooks", r#"{"timestamp":"2026-01-12T06:42:20Z"}"#, 1, old),
        // A time in a header that nobody signed proves nothing.
        ("shopify", "{}", 1_000_000, Ok(())),
    ] {
        assert_eq!(taken(scheme, body, 60, after), expected, "{scheme} {body} {after}");
    }
    assert_eq!(taken("fastpix", fastpix, u64::MAX, 1_000_000), Ok(()));
}

#[test]
fn schemes_say_whether_they_sign_a_time_and_what_they_take_from_the_body() {
    let scheme = |name| Scheme::built_in(name).expect("it is built in");
    for (name, tells) in
        [("fastpix", true), ("slack", true), ("fastgen", false), ("shopify", false), ("gitlab-token", false)]
    {
        assert_eq!(scheme(name).tells_age(), tells, "{name}");
    }
    let shows = |pointer: &str| scheme("fastpix").shows(&Redaction::new([pointer]).expect("it is a pointer"));
    assert_eq!(
        (shows("/id"), shows("/object/id"), shows("/object")),
        (Some("id"), Some("subject"), Some("subject"))
    );
    assert_eq!(
        (shows("/createdAt"), shows(""), shows("/data"), shows("/object/type")),
        (Some("time"), Some("id"), None, None)
    );
}
