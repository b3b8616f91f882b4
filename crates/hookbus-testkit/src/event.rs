//! Events for tests: signed with a test secret and verified, like all events.

use std::time::SystemTime;

use bytes::Bytes;
use hookbus_core::{
    RequestHead, Scheme, Secret, VerifiedEvent, Verifier,
    verify::{Examined, ToSign},
};
use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};

/// The test secret: base64 of 32 bytes, which suits schemes that decode it and those that do not.
const SECRET: &str = "aG9va2J1cy10ZXN0a2l0LXNlY3JldC0zMi1ieXRlcyE=";

/// An event to be made: a FastPix one unless said otherwise.
#[derive(Clone, Debug)]
pub struct TestEvent {
    source: String,
    id: String,
    event_type: String,
    subject: Option<String>,
    body: Option<Bytes>,
}

/// An event of a source that is signed like FastPix does, with this body.
pub fn event(source: &str, body: impl Into<Bytes>) -> VerifiedEvent {
    TestEvent { body: Some(body.into()), ..TestEvent::new(source) }.build()
}

impl TestEvent {
    /// An event of this source with an id and a type, about nothing.
    pub fn new(source: &str) -> Self {
        let (source, id, event_type) = (source.into(), "e1".into(), "video.media.ready".into());
        Self { source, id, event_type, subject: None, body: None }
    }

    /// With this id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Of this type.
    #[must_use]
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = event_type.into();
        self
    }

    /// About this.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Signs and verifies it.
    ///
    /// # Panics
    /// Where an id, type or subject is not plain text.
    pub fn build(self) -> VerifiedEvent {
        let object =
            self.subject.map(|subject| format!(r#","object":{{"id":"{subject}"}}"#)).unwrap_or_default();
        let body = self.body.unwrap_or_else(|| {
            format!(r#"{{"id":"{}","type":"{}"{object}}}"#, self.id, self.event_type).into()
        });
        let scheme = Scheme::built_in("fastpix").expect("fastpix is built in");
        let secret = Secret::new(SECRET);
        let (url, now) = ("https://hooks.example.test/hooks/fastpix", SystemTime::now());
        let request =
            ToSign { secret: &secret, method: &Method::POST, url, id: "", event_type: "", now, body: &body };
        let mut headers: HeaderMap =
            scheme.sign(request).expect("the test secret signs").into_iter().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (verifier, _) = Verifier::new(&self.source, scheme, None, &[secret]);
        let head = RequestHead { method: &Method::POST, query: None, headers: &headers };
        match verifier.examine(head).expect("a signed head is well formed") {
            Examined::Claim(claim) => claim.verify(body, now).expect("what was just signed verifies"),
            Examined::MaybeProbe(_) => unreachable!("the request is signed"),
        }
    }
}
