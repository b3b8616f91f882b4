//! Masking values of a JSON body where it lies, so that everything around them stays byte for byte what it was.

use std::{borrow::Cow, fmt, ops::Range, sync::Arc};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use thiserror::Error;

use crate::json::{Pointer, index};

/// What stands in place of a masked value, whatever it was: a JSON string.
pub const MASK: &str = "\"***\"";

/// Which values of a body must not be seen, by their JSON pointers (RFC 6901).
///
/// A pointer names every value that a reader could find there: all of several members of one name, in any spelling
/// (`"\u0073treamKey"`), and an element of an array by its index. A value is masked with all that is in it.
#[derive(Clone, Default)]
pub struct Redaction(Arc<Inner>);

struct Inner {
    pointers: Vec<Box<str>>,
    /// The pointers as a tree; the first node is the whole document.
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    children: Vec<(Box<str>, usize)>,
    /// The pointer that ends here, by its place.
    masks: Option<usize>,
}

/// A pointer that is none, or too many.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadRedaction {
    /// Not the text of a pointer.
    #[error("`{pointer}`: {why}")]
    Pointer {
        /// Which.
        pointer: Box<str>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than [`Redaction::MAX_POINTERS`].
    #[error("at most {} values can be masked", Redaction::MAX_POINTERS)]
    TooMany,
}

/// Why nobody can say where in a body the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unmaskable {
    /// It is not one JSON document in UTF-8.
    #[error("is no JSON")]
    NoJson,
    /// It has a `Content-Encoding`.
    #[error("has a content encoding")]
    Encoded,
}

/// A body without the values that must not be seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Masked<'b> {
    /// The body; borrowed where nothing had to be masked.
    pub body: Cow<'b, [u8]>,
    /// The pointers at which something was masked, in the order of the redaction.
    pub pointers: Vec<Box<str>>,
}

impl Redaction {
    /// So many values a redaction names at most.
    pub const MAX_POINTERS: usize = 32;
    /// So many bytes a pointer has at most.
    pub const MAX_POINTER: usize = 256;

    /// A redaction of the values at these pointers; `/a/0/b`, the empty one is the whole document.
    ///
    /// # Errors
    /// [`BadRedaction`].
    pub fn new<'p>(pointers: impl IntoIterator<Item = &'p str>) -> Result<Self, BadRedaction> {
        let mut inner = Inner::default();
        for text in pointers {
            let bad = |why| BadRedaction::Pointer { pointer: text.into(), why };
            if text.len() > Self::MAX_POINTER {
                return Err(bad("a pointer has at most 256 bytes"));
            }
            let pointer = Pointer::parse(text).map_err(bad)?;
            if inner.pointers.len() == Self::MAX_POINTERS {
                return Err(BadRedaction::TooMany);
            }
            inner.add(text, &pointer);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// A redaction of all there is.
    pub fn everything() -> Self {
        let mut inner = Inner::default();
        inner.nodes[0].masks = Some(0);
        inner.pointers.push(Box::default());
        Self(Arc::new(inner))
    }

    /// The pointers as they were given, each once.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        self.0.pointers.iter().map(|pointer| &**pointer)
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.0.pointers.is_empty()
    }

    /// Whether the value at this pointer is masked, alone or as a part of another.
    pub fn covers(&self, pointer: &str) -> bool {
        Pointer::parse(pointer).is_ok_and(|pointer| self.covers_all_of(&pointer))
    }

    pub(crate) fn covers_all_of(&self, pointer: &Pointer) -> bool {
        let mut node = &self.0.nodes[0];
        for token in pointer.tokens() {
            if node.masks.is_some() {
                return true;
            }
            match node.children.iter().find(|(name, _)| **name == *token) {
                Some((_, child)) => node = &self.0.nodes[*child],
                None => return false,
            }
        }
        node.masks.is_some()
    }

    /// Masks the values in a body. Every byte outside of them stays. An empty body has none.
    ///
    /// # Errors
    /// [`Unmaskable::NoJson`]: then nobody can say what a reader would find in it.
    pub fn mask<'b>(&self, body: &'b [u8]) -> Result<Masked<'b>, Unmaskable> {
        if self.is_empty() || body.is_empty() {
            return Ok(Masked { body: Cow::Borrowed(body), pointers: Vec::new() });
        }
        let text = std::str::from_utf8(body).map_err(|_| Unmaskable::NoJson)?;
        let mut found = Vec::new();
        let mut json = serde_json::Deserializer::from_str(text);
        let walk = Walk { nodes: &self.0.nodes, node: 0, text, found: &mut found };
        walk.deserialize(&mut json).and_then(|()| json.end()).map_err(|_| Unmaskable::NoJson)?;
        if found.is_empty() {
            return Ok(Masked { body: Cow::Borrowed(body), pointers: Vec::new() });
        }
        let mut masked = Vec::with_capacity(body.len());
        let mut behind = 0;
        // They were found in the order of the text, and none lies in another.
        for (range, _) in &found {
            masked.extend_from_slice(&body[behind..range.start]);
            masked.extend_from_slice(MASK.as_bytes());
            behind = range.end;
        }
        masked.extend_from_slice(&body[behind..]);
        let pointers = self.0.pointers.iter().enumerate();
        let pointers = pointers.filter(|(at, _)| found.iter().any(|(_, pointer)| pointer == at));
        Ok(Masked {
            body: Cow::Owned(masked),
            pointers: pointers.map(|(_, pointer)| pointer.clone()).collect(),
        })
    }

    /// Masks a body for people to see: one that cannot be masked value by value is masked as a whole.
    pub fn apply<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        self.mask(body).map_or(Cow::Borrowed(MASK.as_bytes()), |masked| masked.body)
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self { pointers: Vec::new(), nodes: vec![Node::default()] }
    }
}

impl Inner {
    fn add(&mut self, text: &str, pointer: &Pointer) {
        let mut at = 0;
        for token in pointer.tokens() {
            at = match self.nodes[at].children.iter().find(|(name, _)| **name == *token) {
                Some((_, child)) => *child,
                None => {
                    self.nodes.push(Node::default());
                    let child = self.nodes.len() - 1;
                    self.nodes[at].children.push((token.into(), child));
                    child
                }
            };
        }
        if self.nodes[at].masks.is_none() {
            self.nodes[at].masks = Some(self.pointers.len());
            self.pointers.push(text.into());
        }
    }
}

impl PartialEq for Redaction {
    fn eq(&self, other: &Self) -> bool {
        self.0.pointers == other.0.pointers
    }
}

impl Eq for Redaction {}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redaction").field(&self.0.pointers).finish()
    }
}

impl fmt::Debug for Masked<'_> {
    // Not the body: payloads stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masked({} bytes, {:?})", self.body.len(), self.pointers)
    }
}

/// Walks one node of the tree and the value that stands there side by side.
struct Walk<'w, 'a> {
    nodes: &'w [Node],
    node: usize,
    text: &'a str,
    found: &'w mut Vec<(Range<usize>, usize)>,
}

impl<'w> Walk<'w, '_> {
    fn node(&self) -> &'w Node {
        &self.nodes[self.node]
    }
}

impl<'a> DeserializeSeed<'a> for Walk<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        let Some(pointer) = self.node().masks else { return json.deserialize_any(self) };
        let raw = <&'a RawValue as serde::Deserialize>::deserialize(json)?.get();
        // What is borrowed from the text lies in it.
        let start = raw.as_ptr().addr().checked_sub(self.text.as_ptr().addr());
        let range = start.map(|start| start..start + raw.len()).filter(|range| range.end <= self.text.len());
        self.found.push((range.ok_or_else(|| D::Error::custom("not of this text"))?, pointer));
        Ok(())
    }
}

impl<'a> Visitor<'a> for Walk<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { nodes, node, text, found } = self;
        while let Some(child) = map.next_key_seed(Name(&nodes[node]))? {
            match child {
                Some(node) => map.next_value_seed(Walk { nodes, node, text, found: &mut *found })?,
                None => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { nodes, node, text, found } = self;
        let children = nodes[node].children.iter();
        let wanted: SmallVec<[_; 4]> =
            children.filter_map(|(name, child)| Some((index(name)?, *child))).collect();
        for at in 0_usize.. {
            let more = match wanted.iter().find(|(index, _)| *index == at) {
                Some((_, node)) => {
                    seq.next_element_seed(Walk { nodes, node: *node, text, found: &mut *found })?.is_some()
                }
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Finds the child of a node that a member's name leads to, whatever escapes the name is written with.
struct Name<'w>(&'w Node);

impl<'a> DeserializeSeed<'a> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.children.iter().find(|(child, _)| **child == *name).map(|(_, child)| *child))
    }
}

#[cfg(test)]
mod tests;
