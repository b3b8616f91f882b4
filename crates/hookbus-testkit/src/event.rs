//! Events for tests: signed with a test secret and verified, like all events.

use std::time::SystemTime;

use bytes::Bytes;
use hookbus_core::{
    RequestHead, Scheme, Secret, VerifiedEvent, Verifier,
    verify::{Examined, ToSign},
};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

/// The test secret: base64 of 32 bytes, which suits schemes that decode it and those that do not.
pub(crate) const SECRET: &str = "aG9va2J1cy10ZXN0a2l0LXNlY3JldC0zMi1ieXRlcyE=";
const URL: &str = "https://hooks.example.test/hooks/fastpix";
const CREATED: &str = "2026-01-02T03:04:05Z";

/// An event to be made: a FastPix one unless said otherwise.
#[derive(Clone, Debug)]
pub struct TestEvent {
    source: String,
    provider: String,
    id: String,
    event_type: String,
    subject: Option<String>,
    content_type: String,
    content_encoding: Option<String>,
    body: Option<Bytes>,
    length: Option<usize>,
}

/// An event of a source that is signed like FastPix does, with this body.
pub fn event(source: &str, body: impl Into<Bytes>) -> VerifiedEvent {
    TestEvent::new(source).body(body).build()
}

/// What verifies events of a source and a provider that were signed with the test secret.
pub(crate) fn verifier(source: &str, provider: &str) -> Verifier {
    let scheme = Scheme::built_in(provider).expect("the provider is built in");
    Verifier::new(source, scheme, Some(URL.into()), &[Secret::new(SECRET)]).0
}

impl TestEvent {
    /// An event of this source with an id and a type, about nothing.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.into(),
            provider: "fastpix".into(),
            id: "e1".into(),
            event_type: "video.media.ready".into(),
            subject: None,
            content_type: "application/json".into(),
            content_encoding: None,
            body: None,
            length: None,
        }
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

    /// Signed like this built-in provider does. `standard-webhooks` carries the id in a header, so that the body may
    /// be anything.
    #[must_use]
    pub fn provider(mut self, provider: impl Into<String>) -> Self {
        self.provider = provider.into();
        self
    }

    /// With this body, instead of one that says id, type and subject.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// With a JSON body of exactly so many bytes, which says id, type, subject and a fixed time: events that differ in
    /// length only differ in nothing else but their proof.
    #[must_use]
    pub fn length(mut self, bytes: usize) -> Self {
        self.length = Some(bytes);
        self
    }

    /// With this content type, instead of JSON's.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = content_type.into();
        self
    }

    /// With this content encoding.
    #[must_use]
    pub fn content_encoding(mut self, encoding: impl Into<String>) -> Self {
        self.content_encoding = Some(encoding.into());
        self
    }

    /// Signs and verifies it.
    ///
    /// # Panics
    /// Where an id, type or subject is not plain text, or the length is too small for them.
    pub fn build(self) -> VerifiedEvent {
        let body = self.body.clone().unwrap_or_else(|| self.json().into());
        let verifier = verifier(&self.source, &self.provider);
        let (secret, now) = (Secret::new(SECRET), SystemTime::now());
        let request = ToSign {
            secret: &secret,
            method: &Method::POST,
            url: URL,
            id: &self.id,
            event_type: &self.event_type,
            now,
            body: &body,
        };
        let signed = verifier.scheme().sign(request).expect("the test secret signs");
        let mut headers: HeaderMap = signed.into_iter().collect();
        let header = |text: &str| HeaderValue::from_str(text).expect("a header's value is plain text");
        headers.insert(CONTENT_TYPE, header(&self.content_type));
        if let Some(encoding) = &self.content_encoding {
            headers.insert(CONTENT_ENCODING, header(encoding));
        }
        let head = RequestHead { method: &Method::POST, query: None, headers: &headers };
        match verifier.examine(head).expect("a signed head is well formed") {
            Examined::Claim(claim) => claim.verify(body, now).expect("what was just signed verifies"),
            Examined::MaybeProbe(_) | Examined::Handshake(_) => unreachable!("the request is signed"),
        }
    }

    fn json(&self) -> String {
        let Self { id, event_type, .. } = self;
        let object = match &self.subject {
            Some(subject) => format!(r#","object":{{"id":"{subject}"}}"#),
            None => String::new(),
        };
        let Some(length) = self.length else {
            return format!(r#"{{"id":"{id}","type":"{event_type}"{object}}}"#);
        };
        // With a time, as that of the request would be shown in more or fewer digits.
        let head = format!(r#"{{"id":"{id}","type":"{event_type}"{object},"createdAt":"{CREATED}","pad":""#);
        let pad = length.checked_sub(head.len() + 2).expect("room for what it says");
        format!(r#"{head}{}"}}"#, "x".repeat(pad))
    }
}
