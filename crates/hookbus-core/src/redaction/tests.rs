//! Exactly the named values are masked, however they are written.

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
    assert_eq!(found, " {\n \"data\" : { \"streamKey\":\t\"***\" , \"n\": 1.50 },\"srt\":[1, \"***\"] }\r\n");
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
