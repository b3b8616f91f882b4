//! The two providers, their secrets and their signatures.

use std::time::SystemTime;

use hookbus_core::{Scheme, Secret, verify::ToSign};

use super::post;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Provider {
    FastPix,
    Fastgen,
}

impl Provider {
    pub(crate) const ALL: [Self; 2] = [Self::FastPix, Self::Fastgen];

    /// The provider's name, and the source's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FastPix => "fastpix",
            Self::Fastgen => "fastgen",
        }
    }

    /// Where its webhooks go.
    pub(crate) fn path(self) -> String {
        format!("/hooks/{}", self.name())
    }

    /// The header its signature stands in.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::FastPix => "fastpix-signature",
            Self::Fastgen => "x-fastgen-signature",
        }
    }

    /// The secret that is configured.
    pub(crate) fn secret(self) -> Secret {
        Secret::new(match self {
            Self::FastPix => "aG9va2J1cyBlbmQtdG8tZW5kIHRlc3Qgc2VjcmV0",
            Self::Fastgen => "fgsec_hookbus-end-to-end",
        })
    }

    /// A secret of the same form that is not.
    pub(crate) fn wrong_secret(self) -> Secret {
        Secret::new(match self {
            Self::FastPix => "bm90IHRoZSBzZWNyZXQgdGhhdCBpcyBjb25maWd1cmVk",
            Self::Fastgen => "fgsec_not-the-one-configured",
        })
    }

    /// The signature of a body.
    pub(crate) fn signature(self, body: &[u8]) -> String {
        self.signature_under(&self.secret(), body)
    }

    /// The signature of a body under some secret.
    pub(crate) fn signature_under(self, secret: &Secret, body: &[u8]) -> String {
        let scheme = Scheme::built_in(self.name()).unwrap();
        let request = ToSign {
            secret,
            method: &http::Method::POST,
            url: "",
            id: "",
            event_type: "",
            now: SystemTime::UNIX_EPOCH,
            body,
        };
        let signed = scheme.sign(request).unwrap();
        assert_eq!(signed.len(), 1, "the signature is all these schemes send");
        assert_eq!(signed[0].0.as_str(), self.header());
        signed[0].1.to_str().unwrap().to_owned()
    }

    /// A genuine request.
    pub(crate) fn request(self, body: &[u8]) -> Vec<u8> {
        let signature = self.signature(body);
        let headers = [(self.header(), signature.as_str()), ("content-type", "application/json")];
        post(&self.path(), &headers, body)
    }
}
