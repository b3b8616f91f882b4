//! Reads a few values out of a JSON body in one pass, without building a tree.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

/// A JSON pointer (RFC 6901), split and unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<Box<str>>);

impl Pointer {
    /// Reads `/a/0/b`; the empty pointer is the whole document.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let Some(rest) = text.strip_prefix('/') else { return Err("a JSON pointer starts with `/`") };
        let tokens = rest.split('/').map(|token| {
            let bad_escape = token.split('~').skip(1).any(|tail| !tail.starts_with(['0', '1']));
            if bad_escape {
                return Err("`~` in a JSON pointer is written `~0`, and `/` inside a name `~1`");
            }
            Ok(token.replace("~1", "/").replace("~0", "~").into())
        });
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        if tokens.len() > 16 { Err("a JSON pointer has at most 16 steps") } else { Ok(Self(tokens)) }
    }

    /// Its steps, from the document down.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|token| &**token)
    }
}

/// The index that a step names an element of an array by: without leading zeros or a sign, as RFC 6901 has it.
pub(crate) fn index(name: &str) -> Option<usize> {
    let plain = name == "0" || !name.starts_with('0');
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    (plain && digits).then(|| name.parse().ok())?
}

/// Pointers compiled into a tree, so that one pass over the body answers them all.
#[derive(Debug, Default)]
pub(crate) struct PointerSet {
    nodes: Vec<Node>,
    slots: usize,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(Box<str>, usize)>,
    /// Where the scalar found here goes.
    slots: SmallVec<[usize; 1]>,
}

/// What was found, by slot. Numbers keep their source text; objects, arrays, null and "" count as absent.
pub(crate) struct Values<'a>(SmallVec<[Found<'a>; 8]>);

#[derive(Clone, Default)]
struct Found<'a> {
    scalar: Option<Cow<'a, str>>,
    /// Number of elements, where the value is an array.
    elements: Option<usize>,
}

impl PointerSet {
    /// Adds a pointer and returns the slot its value will be in.
    pub(crate) fn add(&mut self, pointer: &Pointer) -> usize {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for token in &pointer.0 {
            at = match self.nodes[at].children.iter().find(|(name, _)| name == token) {
                Some((_, child)) => *child,
                None => {
                    self.nodes.push(Node::default());
                    let child = self.nodes.len() - 1;
                    self.nodes[at].children.push((token.clone(), child));
                    child
                }
            };
        }
        let slot = self.slots;
        self.slots += 1;
        self.nodes[at].slots.push(slot);
        slot
    }

    /// Reads all values in one pass. A body that is not one JSON document yields nothing at all.
    pub(crate) fn read<'a>(&self, body: &'a [u8]) -> Values<'a> {
        let mut values = Values(smallvec::smallvec![Found::default(); self.slots]);
        if self.slots == 0 {
            return values;
        }
        let Ok(text) = std::str::from_utf8(body) else { return values };
        let mut json = serde_json::Deserializer::from_str(text);
        let walk = Walk { set: self, node: 0, values: &mut values };
        if walk.deserialize(&mut json).and_then(|()| json.end()).is_err() {
            values.0.fill(Found::default());
        }
        values
    }
}

impl Values<'_> {
    /// The scalar in a slot, unescaped where it was a string.
    pub(crate) fn get(&self, slot: usize) -> Option<&str> {
        self.0[slot].scalar.as_deref()
    }

    /// How many elements the array in a slot has; nothing where it is no array.
    pub(crate) fn elements(&self, slot: usize) -> Option<usize> {
        self.0[slot].elements
    }
}

/// Walks one node of the tree and the value that stands there side by side.
struct Walk<'s, 'v, 'a> {
    set: &'s PointerSet,
    node: usize,
    values: &'v mut Values<'a>,
}

impl<'s, 'a> Walk<'s, '_, 'a> {
    fn step(&mut self, child: usize) -> Walk<'s, '_, 'a> {
        Walk { set: self.set, node: child, values: self.values }
    }

    fn node(&self) -> &'s Node {
        &self.set.nodes[self.node]
    }

    /// Forgets what was found at a node and below it: of two equal names the last one counts, with all it holds.
    fn forget(&mut self, node: usize) {
        let node = &self.set.nodes[node];
        node.slots.iter().for_each(|slot| self.values.0[*slot] = Found::default());
        node.children.iter().for_each(|(_, child)| self.forget(*child));
    }
}

impl<'a> DeserializeSeed<'a> for Walk<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(mut self, json: D) -> Result<(), D::Error> {
        let node = self.node();
        if node.slots.is_empty() {
            return json.deserialize_any(self);
        }
        // The value itself is asked for: take its source text, then look inside it where needed.
        let raw = <&'a RawValue as serde::Deserialize>::deserialize(json)?.get();
        let found =
            Found { scalar: scalar(raw), elements: if raw.starts_with('[') { count(raw) } else { None } };
        for slot in &node.slots {
            self.values.0[*slot] = found.clone();
        }
        if !node.children.is_empty() && raw.starts_with(['{', '[']) {
            let walk = self.step(self.node);
            serde_json::Deserializer::from_str(raw).deserialize_any(walk).map_err(D::Error::custom)?;
        }
        Ok(())
    }
}

impl<'a> Visitor<'a> for Walk<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Name(self.node()))? {
            match child {
                Some(child) => {
                    self.forget(child);
                    map.next_value_seed(self.step(child))?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<(), A::Error> {
        for at in 0_usize.. {
            let wanted = self.node().children.iter().find(|(name, _)| index(name) == Some(at));
            let more = match wanted.map(|(_, child)| *child) {
                Some(child) => seq.next_element_seed(self.step(child))?.is_some(),
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

/// Compares an object's member name with a node's children without allocating it.
struct Name<'s>(&'s Node);

impl<'a> DeserializeSeed<'a> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
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

fn scalar(raw: &str) -> Option<Cow<'_, str>> {
    let text = match raw.as_bytes().first()? {
        b'{' | b'[' | b'n' => return None,
        b'"' if raw.contains('\\') => Cow::Owned(serde_json::from_str::<String>(raw).ok()?),
        b'"' => Cow::Borrowed(&raw[1..raw.len() - 1]),
        _ => Cow::Borrowed(raw),
    };
    (!text.is_empty()).then_some(text)
}

fn count(raw: &str) -> Option<usize> {
    serde_json::from_str::<Vec<IgnoredAny>>(raw).ok().map(|elements| elements.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8], pointers: &[&str]) -> Vec<Option<String>> {
        let mut set = PointerSet::default();
        let slots: Vec<_> = pointers.iter().map(|p| set.add(&Pointer::parse(p).unwrap())).collect();
        let values = set.read(body);
        slots.iter().map(|slot| values.get(*slot).map(str::to_owned)).collect()
    }

    #[test]
    fn finds_scalars_as_they_are_written() {
        let body = br#"{"n":12345678901234567890123,"f":1.50,"s":"a\u00e9\n","t":true,"z":null,"o":{"x":"1"},"e":""}"#;
        let found = read(body, &["/n", "/f", "/s", "/t", "/z", "/o", "/o/x", "/e", "/missing"]);
        let expected = [
            Some("12345678901234567890123"),
            Some("1.50"),
            Some("aé\n"),
            Some("true"),
            None,
            None,
            Some("1"),
            None,
            None,
        ];
        assert_eq!(found, expected.map(|value| value.map(str::to_owned)));
    }

    #[test]
    fn walks_arrays_and_the_root() {
        assert_eq!(
            read(br#"[{"id":1},{"id":2}]"#, &["/0/id", "/1/id", "/2/id"]),
            [Some("1".into()), Some("2".into()), None]
        );
        // No other spelling is the same element: what is masked by one must not be read by another.
        assert_eq!(
            read(b"[1,2]", &["/01", "/+1", "/-0", "/", "/1"]),
            [None, None, None, None, Some("2".into())]
        );
        assert_eq!(read(b"\"x\"", &[""]), [Some("x".into())]);
        let mut set = PointerSet::default();
        let root = set.add(&Pointer::parse("").unwrap());
        let first = set.add(&Pointer::parse("/0/id").unwrap());
        let values = set.read(br#"[{"id":7},{"id":8},{}]"#);
        assert_eq!((values.elements(root), values.get(first)), (Some(3), Some("7")));
    }

    #[test]
    fn the_last_of_two_equal_names_counts() {
        assert_eq!(read(br#"{"a":"1","a":"2"}"#, &["/a"]), [Some("2".into())]);
        assert_eq!(read(br#"{"a":"1","a":null}"#, &["/a"]), [None]);
        assert_eq!(read(br#"{"o":{"id":"1"},"o":{"x":2}}"#, &["/o/id"]), [None]);
        assert_eq!(read(br#"{"o":{"id":"1"},"o":null}"#, &["/o/id"]), [None]);
    }

    #[test]
    fn what_is_not_json_yields_nothing() {
        for body in [
            &b"{\"a\":1} x"[..],
            b"{\"a\":1",
            b"",
            b"a=1",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":1}{\"a\":2}",
            b"{\"a\":1,\"b\":\"\xff\"}",
        ] {
            assert_eq!(read(body, &["/a"]), [None], "{body:?}");
        }
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert_eq!(read(&deep, &["/a"]), [None]);
    }

    #[test]
    fn pointers_are_checked() {
        assert!(Pointer::parse("a").is_err());
        assert!(Pointer::parse("/a~2").is_err());
        assert_eq!(Pointer::parse("/a~1b/~0").unwrap().0, ["a/b".into(), Box::<str>::from("~")]);
    }
}
