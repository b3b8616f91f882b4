//! Which headers may be kept with their values.
//!
//! What is not known to be harmless may be a credential: somebody's login, a session, or the secret itself where a
//! source is configured wrong. So values are kept of headers that are listed here, and of those that signature schemes
//! read; of all others only the name is.

use std::{collections::HashSet, sync::LazyLock};

use hookbus_core::{Refusal, Scheme};
use http::{
    HeaderName,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION},
};

/// Headers of HTTP and of proxies that carry no credential.
const HARMLESS: [&str; 34] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "baggage",
    "cache-control",
    "cf-connecting-ip",
    "cf-ray",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "pragma",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "via",
    "x-correlation-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// Headers that carry a credential by definition: kept only where what they have is known to be a signature.
const CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];

/// What may be shown of a request to any source.
static KNOWN: LazyLock<HashSet<HeaderName>> = LazyLock::new(|| {
    let schemes: Vec<_> = Scheme::built_in_names().filter_map(Scheme::built_in).collect();
    let bearer: HashSet<&str> = schemes.iter().flat_map(|scheme| scheme.bearer_headers()).collect();
    let mut known: HashSet<_> = HARMLESS.into_iter().map(HeaderName::from_static).collect();
    known.extend(schemes.iter().flat_map(|scheme| scheme.proof_headers()));
    known.retain(|name| !bearer.contains(name.as_str()) && !CREDENTIALS.contains(name));
    known
});

/// What may be kept of the requests to one source.
#[derive(Debug)]
pub(crate) struct Masks {
    proof: Vec<HeaderName>,
    bearer: Vec<String>,
    signs_url: bool,
}

impl Masks {
    pub(crate) fn new(scheme: &Scheme) -> Self {
        let bearer = scheme.bearer_headers().map(str::to_owned).collect();
        Self { proof: scheme.proof_headers(), bearer, signs_url: scheme.signs_url() }
    }

    /// Whether the value of this header may be kept, of a request that was refused for this reason.
    pub(super) fn shows(&self, name: &HeaderName, reason: &str) -> bool {
        if self.bearer.iter().any(|bearer| bearer == name.as_str()) {
            return false;
        }
        if CREDENTIALS.contains(name) {
            // It was read as a signature, so it is no login.
            return self.proof.contains(name) && behind_the_form(reason);
        }
        self.proof.contains(name) || KNOWN.contains(name)
    }

    /// A query with its values masked, unless they are part of what is signed.
    pub(super) fn query(&self, query: &str) -> String {
        if self.signs_url {
            return query.to_owned();
        }
        let mask = |part: &str| match part.split_once('=') {
            Some((name, _)) => format!("{name}=***"),
            None => "***".to_owned(),
        };
        query.split('&').map(mask).collect::<Vec<_>>().join("&")
    }
}

/// Whether a reason is found only behind a signature of the right form.
fn behind_the_form(reason: &str) -> bool {
    [Refusal::SignatureMismatch, Refusal::TimestampTooOld, Refusal::TimestampInFuture]
        .iter()
        .any(|refusal| refusal.as_str() == reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(scheme: &Scheme, name: &'static str, reason: &str) -> bool {
        Masks::new(scheme).shows(&HeaderName::from_static(name), reason)
    }

    #[test]
    fn what_may_be_a_credential_is_masked() {
        let github = Scheme::built_in("github").unwrap();
        for name in ["x-hub-signature-256", "user-agent", "x-github-event", "stripe-signature"] {
            assert!(shows(&github, name, "signature_mismatch"), "{name}");
        }
        for name in ["authorization", "cookie", "x-gitlab-token", "x-api-key", "x-whatever", "referer"] {
            assert!(!shows(&github, name, "signature_mismatch"), "{name}");
        }
        let gitlab = Scheme::built_in("gitlab-token").unwrap();
        assert!(!shows(&gitlab, "x-gitlab-token", "signature_mismatch"));
        assert!(shows(&gitlab, "x-gitlab-event", "signature_mismatch"));
    }

    #[test]
    fn a_bearer_header_of_ones_own_is_masked_whatever_its_name() {
        for name in ["user-agent", "x-hub-signature-256", "x-mine"] {
            let scheme = format!(
                "alg='equality'\nsig={{headers=['{name}'],encoding='raw'}}\nsigned=''\nid='json:/id'"
            );
            let scheme: Scheme = toml::from_str(&scheme).unwrap();
            assert!(!shows(&scheme, name, "signature_mismatch"), "{name}");
        }
    }

    #[test]
    fn a_signature_in_the_header_of_logins_is_kept_where_it_is_one() {
        let scheme = "alg='hmac-sha256'\nsig={headers=['Authorization'],encoding='hex'}\nsigned='{body}'";
        let scheme: Scheme = toml::from_str(scheme).unwrap();
        for (reason, shown) in
            [("signature_mismatch", true), ("timestamp_too_old", true), ("bad_encoding", false)]
        {
            assert_eq!(shows(&scheme, "authorization", reason), shown, "{reason}");
        }
    }

    #[test]
    fn values_of_a_query_are_masked() {
        let masks = Masks::new(&Scheme::built_in("github").unwrap());
        assert_eq!(masks.query("token=hunter2&a=b=c&hunter3"), "token=***&a=***&***");
        assert_eq!(masks.query(""), "***");
    }
}
