//! What is shown to people: neither payloads nor credentials.

use std::fmt::Debug;

use hookbus_core::{Address, Batch, Envelope, Instant, Outcome, Report, SinkPlugin};
use tokio::time::timeout_at;

use crate::{Fault, Fixture, Skip, TestEvent, event::SECRET, stand::Stand};

/// Part of each body here; whatever shows it shows payloads.
const PAYLOAD: &str = "a-payload-that-nobody-may-see";

/// `Debug` of a sink shows nothing of what it carries, not even while it does.
pub async fn debug_shows_no_payload<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let events = private(&stand.fixture.address(0).await);
    for shown in shown(&stand, &events).await {
        assert_hides(&shown, &[PAYLOAD.into(), SECRET.into()]);
    }
    Ok(())
}

/// `Debug` of a sink and of its configuration shows no credential, connected or not.
pub async fn debug_shows_no_secret<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let secrets = stand.fixture.secrets()?;
    let config: <F::Plugin as SinkPlugin>::Config =
        toml::from_str(&stand.fixture.config()).unwrap_or_else(|error| panic!("the configuration: {error}"));
    assert_hides(&format!("{config:?} {config:#?}"), &secrets);
    assert_hides(&format!("{:?}", stand.sink), &secrets);
    let events = private(&stand.fixture.address(0).await);
    for shown in shown(&stand, &events).await {
        assert_hides(&shown, &secrets);
    }
    Ok(())
}

/// Errors show neither, as `Display`, as `Debug`, or in what they stem from: they are logged and stored.
pub async fn errors_show_no_payload_and_no_secret<F: Fixture>() -> Result<(), Skip> {
    let stand = Stand::<F>::start().await?;
    let mut hidden = stand.fixture.secrets().unwrap_or_default();
    hidden.extend([PAYLOAD.into(), SECRET.into()]);
    let address = stand.fixture.address(0).await;
    let mut outcomes = Vec::new();
    if let Ok(missing) = stand.fixture.missing().await {
        outcomes.extend(stand.publish(&private(&missing), stand.soon()).await);
    }
    let like = private(&address).remove(0);
    if let Ok(largest) = stand.fixture.largest_body(&like) {
        let body = PAYLOAD.repeat(largest / PAYLOAD.len() + 1);
        let event = TestEvent::new("fastpix").body(format!("\"{body}\"")).build();
        outcomes.extend(stand.publish(&[Envelope::new(event, address.clone())], stand.soon()).await);
    }
    if let Ok(proxy) = stand.fixture.proxy() {
        for fault in [Fault::CorruptAnswers, Fault::Stall, Fault::LoseAnswers, Fault::Cut] {
            proxy.inject(fault);
            outcomes.extend(stand.publish(&private(&address), stand.soon()).await);
        }
        proxy.restore();
    }
    let late = stand.late();
    let closed = stand.by("closing", late, stand.sink.close(late)).await;
    assert_hides(&format!("{closed:?}"), &hidden);
    outcomes.extend(stand.publish(&private(&address), stand.soon()).await);
    for outcome in outcomes {
        if let Outcome::Retry { error, .. } | Outcome::Rejected { error, .. } = &outcome {
            assert_hides(&format!("{error} {error:?} {error:#?} {outcome:?}"), &hidden);
        }
    }
    Ok(())
}

/// `Debug` of a sink while it publishes and afterwards.
async fn shown<F: Fixture>(stand: &Stand<F>, events: &[Envelope]) -> Vec<String> {
    let mut shown = Vec::new();
    let (batch, report) = (Batch::new(events), Report::new(events.len()));
    {
        let mut publish = stand.sink.publish(&batch, &report, stand.late());
        // A deadline that is over lets it be polled once, so that it is under way when it is looked at.
        let _ = timeout_at(Instant::now(), &mut publish).await;
        shown.push(show(&stand.sink));
    }
    stand.deliver(events).await;
    shown.push(show(&stand.sink));
    shown
}

fn show(value: &impl Debug) -> String {
    format!("{value:?} {value:#?}")
}

fn private(address: &Address) -> Vec<Envelope> {
    let body = format!(r#"{{"id":"private","type":"video.media.ready","name":"{PAYLOAD}"}}"#);
    vec![Envelope::new(TestEvent::new("fastpix").body(body).build(), address.clone())]
}

fn assert_hides(shown: &str, hidden: &[String]) {
    // As bytes too: that is what a derived `Debug` of a body looks like.
    let as_bytes = |text: &str| {
        let bytes: Vec<_> = text.bytes().take(8).map(|byte| byte.to_string()).collect();
        bytes.join(", ")
    };
    for (nth, text) in hidden.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        let is_shown = shown.contains(text.as_str()) || text.len() >= 8 && shown.contains(&as_bytes(text));
        // Not the text itself: it may be a real one.
        assert!(!is_shown, "what must stay hidden (number {nth} of the list) is shown");
    }
}
