//! Handshakes over HTTP: which methods they come by, and their answers.

use hookbus_core::{HandshakeAnswer, Verifier};
use http::{
    HeaderValue, Method, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;

use super::{
    answer::{Answer, Problem},
    seldom::Seldom,
};
use crate::metrics::Answered;

/// The handshakes of a source.
#[derive(Debug)]
pub(super) struct Handshakes {
    source: String,
    seldom: Seldom,
}

/// Events are sent by POST; GET is for handshakes of providers that ask so.
pub(super) fn check_method(verifier: &Verifier, method: &Method) -> Result<(), Problem> {
    match (method, verifier.scheme().takes_get()) {
        (&Method::POST, _) | (&Method::GET, true) => Ok(()),
        (_, true) => Err(Problem::method("GET, POST")),
        (_, false) => Err(Problem::method("POST")),
    }
}

impl Handshakes {
    pub(super) fn new(source: &str) -> Self {
        Self { source: source.to_owned(), seldom: Seldom::default() }
    }

    /// The answer to a handshake, as what it counts. The log tells which it was, and nothing that was in it.
    pub(super) fn answered(&self, answer: HandshakeAnswer) -> (Answer, Answered) {
        if let Some(unreported_before) = self.seldom.due() {
            let kind = answer.kind();
            tracing::info!(source = self.source, kind, unreported_before, "handshake answered");
        }
        let (status, content_type) = (answer.status(), answer.content_type());
        let mut response = Response::new(Full::from(answer.into_body()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        // What is echoed was chosen by whoever asked: no browser may take it for a page, and no cache keep it.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (response, Answered::Handshake)
    }
}
