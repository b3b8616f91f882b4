//! What an admin request is answered: no secret, no payload, nothing to be kept by a cache.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::Full;
use prometheus_client::{encoding::text, registry::Registry};
use serde_json::json;

use super::Status;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// All that is shown.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) status: std::sync::Arc<Status>,
    pub(super) registry: Registry,
}

impl Shown {
    /// Answers a request; its body is not looked at.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let page: fn(&Self) -> _ = match request.uri().path() {
            "/livez" => Self::alive,
            "/readyz" => Self::ready,
            "/metrics" => Self::metrics,
            _ => {
                let detail = "there are /livez, /readyz and /metrics";
                return problem(StatusCode::NOT_FOUND, "not_found", detail);
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let detail = "the admin pages are read by GET and HEAD";
            let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        page(self)
    }

    fn alive(&self) -> Response<Full<Bytes>> {
        let (status, word) = match self.status.is_alive() {
            true => (StatusCode::OK, "alive"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        };
        whole(status, JSON, json!({ "status": word }).to_string())
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let (ready, shown) = self.status.readiness();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        whole(status, JSON, shown.to_string())
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut page = String::new();
        match text::encode(&mut page, &self.registry) {
            Ok(()) => whole(StatusCode::OK, OPENMETRICS, page),
            Err(_) => {
                let detail = "the metrics could not be written";
                problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            }
        }
    }
}

fn problem(status: StatusCode, reason: &str, detail: &str) -> Response<Full<Bytes>> {
    let shown = json!({
        "type": format!("urn:hookbus:{reason}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
        "reason": reason,
    });
    whole(status, PROBLEM, shown.to_string())
}

fn whole(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
