//! The trace an event belongs to (W3C Trace Context): the one its request names, or one that begins here.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::HeaderMap;

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// The flags there are: sampled, and that the trace's id is random.
const SAMPLED: u8 = 1;
const KNOWN: u8 = 3;
/// What a `tracestate` may have.
const MAX_STATE: usize = 512;
const MAX_MEMBERS: usize = 32;

/// The trace of an event, for `traceparent` and `tracestate` of the CloudEvents extension for distributed tracing.
///
/// Shown (`Display`) it is the `traceparent`.
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    pub(crate) id: [u8; 16],
    pub(crate) parent: [u8; 8],
    pub(crate) flags: u8,
    pub(crate) state: Option<Box<str>>,
    pub(crate) began_here: bool,
}

impl Trace {
    /// The trace that a request's headers name; a new one where they name none, or not in the form of the
    /// recommendation.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all("traceparent").iter();
        let parent = match (given.next(), given.next()) {
            (Some(only), None) => read(only.as_bytes()),
            // Which of two counts would be a guess.
            _ => None,
        };
        match parent {
            Some((id, parent, flags)) => Self { id, parent, flags, state: state(headers), began_here: false },
            None => Self::begin(),
        }
    }

    /// A new trace. It is marked as sampled: tracing libraries drop what follows a parent that is not.
    fn begin() -> Self {
        // Numbers under a random key: nobody can tell the next one, and none costs a system call.
        static NUMBERS: LazyLock<(RandomState, AtomicU64)> = LazyLock::new(Default::default);
        let (hasher, count) = &*NUMBERS;
        let number = count.fetch_add(1, Ordering::Relaxed);
        let random = |part: u8| hasher.hash_one((number, part)).max(1).to_be_bytes();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random(0));
        id[8..].copy_from_slice(&random(1));
        Self { id, parent: random(2), flags: KNOWN, state: None, began_here: true }
    }

    /// The id that everything of the trace has, as 32 hexadecimal digits.
    pub fn id(&self) -> TraceId {
        TraceId(self.id)
    }

    /// The `tracestate`, where the request had a valid one.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The attributes of it that came with the request.
    pub(crate) fn unsigned(&self) -> impl Iterator<Item = &'static str> {
        let named = [("traceparent", !self.began_here), ("tracestate", self.state.is_some())];
        named.into_iter().filter_map(|(name, came)| came.then_some(name))
    }

    /// Whether it began here. What a request names is not covered by its signature.
    pub fn began_here(&self) -> bool {
        self.began_here
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: each event has one, on each bus.
        let mut text = *b"00-................................-................-..";
        spell(&self.id, &mut text[3..35]);
        spell(&self.parent, &mut text[36..52]);
        spell(&[self.flags], &mut text[53..]);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({self})")
    }
}

/// The id of a trace, for log lines.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        spell(&self.0, &mut text);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Bytes in lower-case hex, two for one.
fn spell(bytes: &[u8], into: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(into.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads a `traceparent`. Of a later version what version 00 has counts, and nothing else is passed on.
fn read(text: &[u8]) -> Option<([u8; 16], [u8; 8], u8)> {
    let (head, rest) = text.split_at_checked(LENGTH)?;
    let [version] = hex::<1>(&head[..2])?;
    let ended = rest.is_empty() || (version > 0 && rest[0] == b'-');
    if version == 0xff || !ended || [2, 35, 52].iter().any(|at| head[*at] != b'-') {
        return None;
    }
    let (id, parent, [flags]) = (hex::<16>(&head[3..35])?, hex::<8>(&head[36..52])?, hex::<1>(&head[53..])?);
    let known = if version == 0 { KNOWN } else { SAMPLED };
    (id != [0; 16] && parent != [0; 8]).then_some((id, parent, flags & known))
}

/// Lower-case digits only, as the recommendation has it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// The `tracestate` of a request; none where any part of it is wrong.
fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let mut members: Vec<&str> = Vec::new();
    for header in headers.get_all("tracestate") {
        let given = header.to_str().ok()?.split(',').map(|member| member.trim_matches([' ', '\t']));
        members.extend(given.filter(|member| !member.is_empty()));
    }
    let sound = !members.is_empty() && members.len() <= MAX_MEMBERS;
    let state = (sound && members.iter().all(|member| is_member(member))).then(|| members.join(","))?;
    (state.len() <= MAX_STATE).then(|| state.into())
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let in_key = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let in_value = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'=';
    (1..=256).contains(&key.len())
        && key.bytes().all(in_key)
        && key.starts_with(|first: char| first.is_ascii_alphanumeric())
        && (1..=256).contains(&value.len())
        && value.bytes().all(in_value)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(headers: &[(&'static str, &str)]) -> Trace {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        Trace::of(&headers.iter().map(header).collect())
    }

    #[test]
    fn what_a_request_names_is_passed_on() {
        let trace = of(&[("traceparent", GIVEN), ("tracestate", "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE")]);
        assert_eq!((trace.to_string().as_str(), trace.began_here()), (GIVEN, false));
        assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.state(), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        // A later version: what is known of it.
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-comes-later";
        assert_eq!(of(&[("traceparent", later)]).to_string(), GIVEN);
        assert_eq!(
            of(&[("traceparent", &GIVEN.replace("-01", "-fe"))]).flags,
            2,
            "unknown flags are not passed on"
        );
    }

    #[test]
    fn what_has_not_the_form_begins_a_new_one() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ] {
            let trace = of(&[("traceparent", wrong), ("tracestate", "a=b")]);
            assert!(trace.began_here() && trace.state().is_none(), "{wrong}: {trace:?}");
        }
        assert!(of(&[("traceparent", GIVEN), ("traceparent", GIVEN)]).began_here(), "twice");
    }

    #[test]
    fn a_new_one_is_sampled_and_like_no_other() {
        let (one, other) = (of(&[]), of(&[]));
        assert_ne!(one.id(), other.id());
        assert_ne!(one.parent, other.parent);
        assert!(one.to_string().ends_with("-03") && one.began_here());
        let (id, parent, flags) = read(one.to_string().as_bytes()).unwrap();
        assert_eq!((id, parent, flags), (one.id, one.parent, one.flags));
    }

    #[test]
    fn a_state_is_passed_on_whole_or_not_at_all() {
        let state = |states: &[&str]| {
            let mut headers = vec![("traceparent", GIVEN)];
            headers.extend(states.iter().map(|state| ("tracestate", *state)));
            of(&headers).state().map(str::to_owned)
        };
        assert_eq!(state(&["a=1", "b=2 3"]).as_deref(), Some("a=1,b=2 3"));
        assert_eq!(state(&["a=1,,", "\t"]).as_deref(), Some("a=1"));
        assert_eq!(state(&["fw529a3039@dt=FfAqCTYAAA"]).as_deref(), Some("fw529a3039@dt=FfAqCTYAAA"));
        let long = format!("a={}", "x".repeat(256));
        assert!(state(&[&long]).is_some() && state(&[&long, "b=1", &long]).is_none());
        for wrong in ["a", "A=1", "=1", "a=", "a=1=2", "a=1,b", "-a=1", &format!("{long}x")] {
            assert_eq!(state(&[wrong]), None, "{wrong}");
        }
        let many: Vec<_> = (0..33).map(|number| format!("k{number}=1")).collect();
        assert!(state(&[&many[..32].join(",")]).is_some() && state(&[&many.join(",")]).is_none());
    }

    proptest! {
        #[test]
        fn whatever_a_header_holds_what_comes_out_has_the_form(text in "[ -~]{0,80}|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            let shown = of(&[("traceparent", &text)]).to_string();
            prop_assert_eq!(shown.len(), LENGTH);
            prop_assert!(read(shown.as_bytes()).is_some());
        }
    }
}
