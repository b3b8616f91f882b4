//! The buses around the bridge: places to publish to, and what a consumer finds there.
//!
//! With the drivers' own consumers and nothing of our adapters, so that a mistake in one cannot hide in the other.

pub(crate) mod kafka;
pub(crate) mod rabbitmq;
pub(crate) mod redis;

use std::collections::BTreeMap;

/// An event as a consumer finds it.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// The attributes of CloudEvents by name, without what the bus puts before it.
    pub(crate) attributes: BTreeMap<String, String>,
    /// All other headers: those a consumer verifies the body with.
    pub(crate) proof: BTreeMap<String, String>,
    /// The body, byte for byte.
    pub(crate) body: Vec<u8>,
}

impl Arrived {
    /// The event's id.
    pub(crate) fn id(&self) -> &str {
        self.attributes.get("id").map_or("", String::as_str)
    }

    /// Enters a header; those of attributes begin with `prefix`.
    fn header(&mut self, prefix: &str, name: &str, value: &[u8]) {
        let value = String::from_utf8(value.to_vec()).unwrap();
        let known = match name.strip_prefix(prefix) {
            Some(attribute) => self.attributes.insert(attribute.to_owned(), value),
            None if name == "content-type" => self.attributes.insert("datacontenttype".to_owned(), value),
            None => self.proof.insert(name.to_owned(), value),
        };
        assert!(known.is_none(), "`{name}` stands there twice");
    }
}
