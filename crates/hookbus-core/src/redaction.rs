//! Masking values of a JSON body where it lies, so that everything around them stays byte for byte what it was.

use std::{borrow::Cow, fmt, ops::Range, sync::Arc};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use thiserror::Error;

use crate::json::Pointer;

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

/// The index an element of an array is named by: without leading zeros or a sign.
fn index(name: &str) -> Option<usize> {
    name.parse().ok().filter(|index: &usize| *index.to_string() == *name)
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
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    fn masked(body: &str, pointers: &[&str]) -> (String, Vec<String>) {
        let redaction = Redaction::new(pointers.iter().copied()).unwrap();
        let Masked { body, pointers } = redaction.mask(body.as_bytes()).unwrap();
        let pointers = pointers.iter().map(ToString::to_string).collect();
        (String::from_utf8(body.into_owned()).unwrap(), pointers)
    }

    #[test]
    fn values_are_masked_where_they_lie() {
        let body =
            " {\n \"data\" : { \"streamKey\":\t\"se\\\"cret\" , \"n\": 1.50 },\"srt\":[1, {\"a\":2}] }\r\n";
        let (found, pointers) = masked(body, &["/data/streamKey", "/missing", "/srt/1"]);
        assert_eq!(
            found,
            " {\n \"data\" : { \"streamKey\":\t\"***\" , \"n\": 1.50 },\"srt\":[1, \"***\"] }\r\n"
        );
        assert_eq!(pointers, ["/data/streamKey", "/srt/1"]);
        assert_eq!(masked("{\"a\":1}", &["/b"]), ("{\"a\":1}".to_owned(), vec![]));
        assert_eq!(masked("", &["/b"]), (String::new(), vec![]));
    }

    #[test]
    fn whatever_a_reader_could_take_for_it_is_masked() {
        for (body, pointer, expected) in [
            (r#"{"a":1,"a":2}"#, "/a", r#"{"a":"***","a":"***"}"#),
            (
                r#"{"o":{"a":1},"o":{"a":2,"b":3},"o":null}"#,
                "/o/a",
                r#"{"o":{"a":"***"},"o":{"a":"***","b":3},"o":null}"#,
            ),
            (r#"{"\u0073tream\u004bey":"x"}"#, "/streamKey", r#"{"\u0073tream\u004bey":"***"}"#),
            (r#"{"a\/b":"x","a~b":"y"}"#, "/a~1b", r#"{"a\/b":"***","a~b":"y"}"#),
            (r#"{"a~b":"y"}"#, "/a~0b", r#"{"a~b":"***"}"#),
            (r#"{"":{"":1}}"#, "//", r#"{"":{"":"***"}}"#),
            (r#"{"t":[{"k":1},{"k":2}]}"#, "/t/1/k", r#"{"t":[{"k":1},{"k":"***"}]}"#),
            (r#"{"t":{"1":{"k":2}}}"#, "/t/1/k", r#"{"t":{"1":{"k":"***"}}}"#),
            (r#"[[["x"]]]"#, "/0/0/0", r#"[[["***"]]]"#),
            (r#"{"a":null}"#, "/a", r#"{"a":"***"}"#),
            (r#"{"a":{"b":[1,{"c":2}]}}"#, "/a", r#"{"a":"***"}"#),
            (" 17\n", "", " \"***\"\n"),
            (r#"{"a":[1,2]}"#, "/a/01", r#"{"a":[1,2]}"#),
            (r#"{"a":[1,2]}"#, "/a/+1", r#"{"a":[1,2]}"#),
            (r#"{"a":[1,2]}"#, "/a/-", r#"{"a":[1,2]}"#),
        ] {
            assert_eq!(masked(body, &[pointer]).0, expected, "{pointer} of {body}");
        }
        // What is in a masked value is masked with it, in whatever order they are named.
        for pointers in [["/a", "/a/b"], ["/a/b", "/a"]] {
            assert_eq!(masked(r#"{"a":{"b":1}}"#, &pointers).0, r#"{"a":"***"}"#);
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(masked(&deep, &["/a"]).0, "{\"a\":\"***\"}", "however deep it is nested");
        assert_eq!(masked(&deep, &["/b"]).0, deep);
    }

    #[test]
    fn what_is_no_json_cannot_be_masked_and_is_hidden_as_a_whole() {
        let redaction = Redaction::new(["/a"]).unwrap();
        for body in [
            &b"a=secret"[..],
            b"{\"a\":\"secret\"",
            b"{\"a\":\"secret\"} x",
            b"{\"a\":\"secret\"}{\"a\":\"secret\"}",
            b"\xef\xbb\xbf{\"a\":\"secret\"}",
            b"{\"a\":\"secret\xff\"}",
            b"{\"b\":\"\xff\",\"a\":\"secret\"}",
            b"{'a':'secret'}",
            b"{\"\\ud800\":1,\"a\":\"secret\"}",
            b"\x1f\x8b\x08secret",
            b" ",
        ] {
            assert_eq!(redaction.mask(body), Err(Unmaskable::NoJson), "{body:?}");
            assert_eq!(&*redaction.apply(body), MASK.as_bytes(), "{body:?}");
        }
    }

    #[test]
    fn pointers_are_checked_and_known() {
        let bad = |pointer: &str| matches!(Redaction::new([pointer]), Err(BadRedaction::Pointer { .. }));
        assert!(bad("a") && bad("/a~2") && bad(&format!("/{}", "x".repeat(256))));
        let many: Vec<_> = (0..33).map(|number| format!("/{number}")).collect();
        assert!(Redaction::new(many[..32].iter().map(String::as_str)).is_ok());
        assert_eq!(Redaction::new(many.iter().map(String::as_str)), Err(BadRedaction::TooMany));
        let redaction = Redaction::new(["/a/b", "/c", "/a/b"]).unwrap();
        assert_eq!(redaction.pointers().collect::<Vec<_>>(), ["/a/b", "/c"]);
        for (pointer, covered) in [
            ("/a/b", true),
            ("/a/b/c", true),
            ("/a", false),
            ("", false),
            ("/c", true),
            ("/d", false),
            ("x", false),
        ] {
            assert_eq!(redaction.covers(pointer), covered, "{pointer}");
        }
    }

    /// A JSON document as a list of what is written, so that it can be written with all names, white space and escapes.
    #[derive(Clone, Debug)]
    enum Json {
        Scalar(&'static str),
        Array(Vec<Json>),
        /// Names with how they are escaped; some are there more than once.
        Object(Vec<(&'static str, bool, Json)>),
    }

    const NAMES: [&str; 7] = ["a", "b", "0", "1", "a/b", "~", ""];

    fn documents() -> impl Strategy<Value = Json> {
        let scalars = ["1", "-0.50e3", "true", "null", r#""""#, r#""x\"]}\u00e9""#, r#""***""#];
        let scalar = prop::sample::select(scalars.to_vec()).prop_map(Json::Scalar);
        scalar.prop_recursive(5, 40, 5, |inner| {
            let member = (prop::sample::select(NAMES.to_vec()), any::<bool>(), inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Json::Array),
                prop::collection::vec(member, 0..5).prop_map(Json::Object),
            ]
        })
    }

    /// Writes a document twice: as it is, and as it must be with these pointers masked.
    struct Writer<'p> {
        pointers: &'p [String],
        spaces: Vec<&'static str>,
        at: usize,
        plain: String,
        masked: String,
        hidden: bool,
    }

    impl Writer<'_> {
        fn put(&mut self, text: &str) {
            self.plain.push_str(text);
            if !self.hidden {
                self.masked.push_str(text);
            }
        }

        fn space(&mut self) {
            self.at += 1;
            let space = self.spaces[self.at % self.spaces.len()];
            self.put(space);
        }

        fn write(&mut self, json: &Json, path: &str) {
            let masks = !self.hidden && self.pointers.iter().any(|pointer| pointer == path);
            if masks {
                self.masked.push_str(MASK);
                self.hidden = true;
            }
            match json {
                Json::Scalar(text) => self.put(text),
                Json::Array(elements) => {
                    self.put("[");
                    for (at, element) in elements.iter().enumerate() {
                        self.put(if at == 0 { "" } else { "," });
                        self.space();
                        self.write(element, &format!("{path}/{at}"));
                        self.space();
                    }
                    self.put("]");
                }
                Json::Object(members) => {
                    self.put("{");
                    for (at, (name, escaped, member)) in members.iter().enumerate() {
                        self.put(if at == 0 { "" } else { "," });
                        self.space();
                        let escape = |char: char| format!("\\u{:04x}", u32::from(char));
                        let spelt =
                            if *escaped { name.chars().map(escape).collect() } else { (*name).to_owned() };
                        self.put(&format!("\"{spelt}\""));
                        self.space();
                        self.put(":");
                        self.space();
                        let token = name.replace('~', "~0").replace('/', "~1");
                        self.write(member, &format!("{path}/{token}"));
                        self.space();
                    }
                    self.put("}");
                }
            }
            self.hidden &= !masks;
        }
    }

    /// The pointers of all values of a document.
    fn paths(json: &Json, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        match json {
            Json::Scalar(_) => {}
            Json::Array(elements) => {
                elements
                    .iter()
                    .enumerate()
                    .for_each(|(at, element)| paths(element, &format!("{path}/{at}"), found));
            }
            Json::Object(members) => {
                for (name, _, member) in members {
                    let token = name.replace('~', "~0").replace('/', "~1");
                    paths(member, &format!("{path}/{token}"), found);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn exactly_the_named_values_are_masked(
            document in documents(),
            chosen in prop::collection::vec(any::<Index>(), 0..4),
            others in prop::collection::vec("(/[ab01]){1,3}", 0..3),
            spaces in prop::collection::vec(prop::sample::select(vec!["", "", " ", "\n\t", "\r\n"]), 1..5),
        ) {
            let mut all = Vec::new();
            paths(&document, "", &mut all);
            let mut pointers: Vec<String> = chosen.iter().map(|index| index.get(&all).clone()).collect();
            pointers.extend(others);
            let (plain, masked) = (String::new(), String::new());
            let mut writer = Writer { pointers: &pointers, spaces, at: 0, plain, masked, hidden: false };
            writer.space();
            writer.write(&document, "");
            writer.space();
            let redaction = Redaction::new(pointers.iter().map(String::as_str)).unwrap();
            let found = redaction.mask(writer.plain.as_bytes()).unwrap();
            prop_assert_eq!(std::str::from_utf8(&found.body).unwrap(), &writer.masked, "{}", writer.plain);
            prop_assert_eq!(found.pointers.is_empty(), matches!(found.body, Cow::Borrowed(_)));
            // Once more changes nothing.
            prop_assert_eq!(redaction.mask(&found.body).unwrap().body, &*found.body);
        }

        #[test]
        fn any_bytes_are_masked_or_hidden(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let redaction = Redaction::new([""]).unwrap();
            let shown = redaction.apply(&body);
            prop_assert!(body.is_empty() || shown.trim_ascii() == MASK.as_bytes());
        }
    }
}
