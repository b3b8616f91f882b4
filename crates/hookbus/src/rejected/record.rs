//! A request as it is kept.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::source::Request;
use crate::config::Keep;

/// Bytes of headers that are kept.
const HEADERS: usize = 32 << 10;
/// Bytes of a method.
const METHOD: usize = 32;

/// The head of a request that was not accepted, and what became of its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// When it was answered, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) reason: String,
    pub(crate) status: u16,
    pub(crate) client: IpAddr,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Values are masked, unless the scheme signs them.
    pub(crate) query: Option<String>,
    pub(crate) headers: Vec<(String, Value)>,
    /// Headers that there was no room for.
    pub(crate) headers_left_out: u32,
    pub(crate) body: KeptBody,
}

/// The value of a header.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Value {
    /// As it came.
    Shown(Vec<u8>),
    /// It may be a credential.
    Masked,
}

/// What is kept of a body; the bytes stand beside the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeptBody {
    /// It was refused before its body was read, or for something that has nothing to do with it.
    NotRead,
    /// Nothing, as configured.
    Left { bytes: u64 },
    /// All of it.
    Whole { bytes: u64 },
    /// The beginning.
    Cut { bytes: u64 },
}

impl Record {
    /// Takes down a request: what is kept of its head, and of its body.
    pub(super) fn new(request: &Request<'_>, keep: Keep, most: usize, now: SystemTime) -> (Self, Vec<u8>) {
        let (mut headers, mut left_out, mut room) = (Vec::new(), 0, HEADERS);
        for (name, value) in &request.head.headers {
            let value = match request.masks.shows(name, request.reason) {
                true => Value::Shown(value.as_bytes().to_vec()),
                false => Value::Masked,
            };
            let size = name.as_str().len() + value.len();
            match room.checked_sub(size) {
                Some(rest) => {
                    room = rest;
                    headers.push((name.as_str().to_owned(), value));
                }
                None => left_out += 1,
            }
        }
        let (body, bytes) = match (request.body, keep) {
            (None, _) => (KeptBody::NotRead, Vec::new()),
            (Some(body), Keep::Whole) if body.len() <= most => {
                (KeptBody::Whole { bytes: body.len() as u64 }, body.to_vec())
            }
            (Some(body), Keep::Whole) => (KeptBody::Cut { bytes: body.len() as u64 }, body[..most].to_vec()),
            (Some(body), _) => (KeptBody::Left { bytes: body.len() as u64 }, Vec::new()),
        };
        let mut method = request.head.method.as_str();
        method = method.get(..METHOD).unwrap_or(method);
        let record = Self {
            at: millis(now),
            reason: request.reason.to_owned(),
            status: request.status,
            client: request.client,
            method: method.to_owned(),
            path: request.head.uri.path().to_owned(),
            query: request.head.uri.query().map(|query| request.masks.query(query)),
            headers,
            headers_left_out: left_out,
            body,
        };
        (record, bytes)
    }
}

impl Value {
    fn len(&self) -> usize {
        match self {
            Self::Shown(bytes) => bytes.len(),
            Self::Masked => 0,
        }
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.len())
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
