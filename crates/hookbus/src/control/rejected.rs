//! Commands on requests that were not accepted.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hookbus_core::EventTime;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{Replies, Reply, Stopped};
use crate::{
    diagnosis,
    rejected::{Chosen, Found, KeptBody, Known, Value},
};

/// What to say of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnRejected {
    /// Which there are.
    List(Chosen),
    /// All that is kept of one, and why it was refused.
    Show { id: u64, body: BodyAs },
}

/// How the body of a request is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BodyAs {
    /// With what its source says is never shown masked.
    Masked,
    /// Byte for byte.
    Received,
}

/// A request as it is shown.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RejectedLine {
    pub(crate) id: u64,
    pub(crate) time: String,
    pub(crate) source: String,
    pub(crate) reason: String,
    pub(crate) status: u16,
    pub(crate) client: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    /// How much of the body there is: `whole`, `cut`, `left` out as configured, or `not-read`.
    pub(crate) body: String,
    /// How long the body was, where it was read.
    pub(crate) body_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) details: Option<Box<Details>>,
}

/// What is shown of one request only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Details {
    /// Each name with its value; nothing where that is masked.
    pub(crate) headers: Vec<(String, Option<String>)>,
    /// Headers that were not kept.
    pub(crate) headers_left_out: u32,
    /// What explains the reason.
    pub(crate) findings: Vec<String>,
    /// What is kept of the body, in base64: masked, or as it was received.
    pub(crate) body_base64: String,
}

impl RejectedLine {
    fn new(found: &Found) -> Self {
        let record = &found.record;
        let (body, body_bytes) = match record.body {
            KeptBody::NotRead => ("not-read", None),
            KeptBody::Left { bytes } => ("left", Some(bytes)),
            KeptBody::Whole { bytes } => ("whole", Some(bytes)),
            KeptBody::Cut { bytes } => ("cut", Some(bytes)),
        };
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(record.at));
        Self {
            id: found.id,
            time: time.map(|time| EventTime::from(time).to_string()).unwrap_or_default(),
            source: found.source.to_string(),
            reason: record.reason.clone(),
            status: record.status,
            client: record.client.to_string(),
            method: record.method.clone(),
            path: record.path.clone(),
            query: record.query.clone(),
            body: body.into(),
            body_bytes,
            details: None,
        }
    }

    fn whole(known: &Known, found: &Found, body: BodyAs) -> Self {
        let value = |value: &Value| match value {
            Value::Shown(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Value::Masked => None,
        };
        let headers = &found.record.headers;
        let source = known.sources.iter().find(|source| source.name == found.source);
        let body = match (body, source) {
            (BodyAs::Masked, Some(source)) => source.redact.apply(&found.body),
            _ => Cow::Borrowed(&found.body[..]),
        };
        let details = Details {
            headers: headers.iter().map(|(name, shown)| (name.clone(), value(shown))).collect(),
            headers_left_out: found.record.headers_left_out,
            findings: diagnosis::explain(known, found),
            body_base64: STANDARD.encode(body),
        };
        Self { details: Some(Box::new(details)), ..Self::new(found) }
    }
}

/// Says what is asked; how many requests it was about.
pub(super) async fn answer(
    known: Arc<Known>,
    command: OnRejected,
    replies: &Replies,
) -> Result<(u64, u64), Stopped> {
    let lines = match command {
        OnRejected::List(chosen) => {
            let found = spawn_blocking(move || known.reading().list(&chosen)).await??;
            found.iter().map(RejectedLine::new).collect()
        }
        OnRejected::Show { id, body } => {
            let shown = spawn_blocking(move || {
                let found = known.reading().get(id)?;
                std::io::Result::Ok(found.map(|found| RejectedLine::whole(&known, &found, body)))
            });
            vec![shown.await??.ok_or_else(|| Stopped(format!("there is no rejected request {id}")))?]
        }
    };
    let done = lines.len() as u64;
    for line in lines {
        replies.send(Reply::Rejected(Box::new(line))).await.map_err(|_| Stopped::gone())?;
    }
    Ok((done, 0))
}
