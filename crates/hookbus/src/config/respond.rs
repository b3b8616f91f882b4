//! `respond`: what a sender is told when its event was taken over.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

/// Bytes a body has at most: it is sent with every answer.
const MAX_BODY: usize = 4 << 10;

/// The answer to an event that was taken over, whatever became of it: accepted, a duplicate, or ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RespondTable")]
pub struct Respond {
    /// A status of success.
    pub status: StatusCode,
    /// The body; may be empty.
    pub body: Bytes,
    /// What the body is.
    pub content_type: Option<HeaderValue>,
}

/// What is answered to an event that was taken over.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "respond")]
pub(super) struct RespondTable {
    /// 200 to 299. Default: 200.
    #[schemars(range(min = 200, max = 299))]
    status: Option<u16>,
    /// The body, at most 4 KiB. Default: none.
    #[serde(default)]
    body: String,
    /// What the body is. Default: `text/plain; charset=utf-8`.
    content_type: Option<String>,
}

impl Respond {
    /// What a provider wants where the configuration does not say.
    pub(super) fn preset(provider: &str) -> Option<Self> {
        // Its documentation asks for 204 and a content type; all others take any 2xx.
        let content_type = Some(HeaderValue::from_static("application/json"));
        (provider == "discord").then(|| Self {
            status: StatusCode::NO_CONTENT,
            body: Bytes::new(),
            content_type,
        })
    }
}

impl TryFrom<RespondTable> for Respond {
    type Error = String;

    fn try_from(table: RespondTable) -> Result<Self, String> {
        let RespondTable { status, body, content_type } = table;
        let status = StatusCode::from_u16(status.unwrap_or(200)).ok().filter(StatusCode::is_success);
        let status = status
            .ok_or("`status` is not from 200 to 299: any other would tell that the event is not safe")?;
        if matches!(status.as_u16(), 204 | 205) && !body.is_empty() {
            return Err(format!("`body` must be empty: an answer with status {} has none", status.as_u16()));
        }
        if body.len() > MAX_BODY {
            return Err(format!("`body` has {} bytes, more than {MAX_BODY}", body.len()));
        }
        let plain = || (!body.is_empty()).then(|| "text/plain; charset=utf-8".to_owned());
        let content_type = content_type.or_else(plain).map(|text| {
            let sound = text.contains('/') && text.is_ascii();
            HeaderValue::from_str(&text)
                .ok()
                .filter(|_| sound)
                .ok_or("`content-type` is no content type, such as \"text/plain\"")
        });
        Ok(Self { status, body: body.into(), content_type: content_type.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Respond, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let plain = read("").unwrap();
        assert_eq!((plain.status.as_u16(), plain.body.len(), plain.content_type), (200, 0, None));
        let text = read("body = 'ok'\nstatus = 202").unwrap();
        assert_eq!((text.status.as_u16(), &*text.body), (202, &b"ok"[..]));
        assert_eq!(text.content_type.unwrap(), "text/plain; charset=utf-8");
        assert_eq!(read("content-type = 'a/b'").unwrap().content_type.unwrap(), "a/b");
        assert_eq!(
            read("body = 'x'\ncontent-type = 'application/xml'").unwrap().content_type.unwrap(),
            "application/xml"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (wrong, says) in [
            ("status = 199", "`status`"),
            ("status = 300", "`status`"),
            ("status = 404", "`status`"),
            ("status = 99999", "u16"),
            ("status = 204\nbody = 'x'", "`body` must be empty"),
            ("status = 205\nbody = 'x'", "`body` must be empty"),
            ("content-type = 'text'", "`content-type`"),
            ("content-type = \"a/b\\r\\nx: y\"", "`content-type`"),
            ("content-type = 'a/ü'", "`content-type`"),
            ("bdy = 'x'", "unknown field"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
        assert!(read(&format!("body = '{}'", "x".repeat(MAX_BODY))).is_ok());
        assert!(read(&format!("body = '{}'", "x".repeat(MAX_BODY + 1))).unwrap_err().contains("4097 bytes"));
    }

    #[test]
    fn discord_has_an_answer_of_its_own() {
        let discord = Respond::preset("discord").unwrap();
        assert!(discord.status == StatusCode::NO_CONTENT && discord.body.is_empty());
        assert_eq!(Respond::preset("fastpix"), None);
    }
}
