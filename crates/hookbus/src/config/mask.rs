//! What must not be shown when a mistake is: texts that may be secrets, wherever they were put.
//!
//! A secret is most often found where it does not belong. So everything is masked that is not known to be harmless:
//! values at keys that exist, comments, and whatever looks like a secret even there.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Places whose texts are shown, as paths of keys; `*` is any name, and the elements of a list stand at its place.
const SHOWN: &[&str] = &[
    "server.listen",
    "server.trusted-proxies",
    "server.forwarding-header",
    "server.limits.*",
    "server.limits.refused-per-address.*",
    "server.timeouts.*",
    "admin.listen",
    "journal.dir",
    "journal.max-size",
    "journal.retention",
    "journal.segment-size",
    "journal.dedup.window",
    "journal.dedup.max-size",
    "dead-letters.max-size",
    "sources.*.provider",
    "sources.*.public-url",
    "sources.*.ack",
    "sources.*.ack-timeout",
    "sources.*.order",
    "sources.*.rate-limit",
    "sources.*.rate-limit.*",
    "sources.*.secrets.env",
    "sources.*.secrets.file",
    "sources.*.verify-token.env",
    "sources.*.verify-token.file",
    "sources.*.scheme.alg",
    "sources.*.scheme.key.decode",
    "sources.*.scheme.key.strip",
    "sources.*.scheme.sig.headers",
    "sources.*.scheme.sig.item-sep",
    "sources.*.scheme.sig.kv-sep",
    "sources.*.scheme.sig.tags",
    "sources.*.scheme.sig.encoding",
    "sources.*.scheme.require.*",
    "sources.*.scheme.signed",
    "sources.*.scheme.ts.from",
    "sources.*.scheme.ts.unit",
    "sources.*.scheme.ts.past",
    "sources.*.scheme.ts.future",
    "sources.*.scheme.id",
    "sources.*.scheme.type",
    "sources.*.scheme.subject",
    "sources.*.scheme.time.from",
    "sources.*.scheme.time.unit",
    "sources.*.scheme.many",
    "sources.*.scheme.handshake",
    "sinks.*.type",
    "sinks.*.dir",
    "sinks.*.publish-timeout",
    "sinks.*.max-pending",
    "sinks.*.when-full",
    "sinks.*.brokers",
    "sinks.*.url",
    "sinks.*.username",
    "sinks.*.password.env",
    "sinks.*.password.file",
    "sinks.*.tls.ca",
    "sinks.*.tls.cert",
    "sinks.*.tls.key.env",
    "sinks.*.tls.key.file",
    "sinks.*.sasl.mechanism",
    "sinks.*.sasl.username",
    "sinks.*.sasl.password.env",
    "sinks.*.sasl.password.file",
    "sinks.*.compression",
    "sinks.*.confirm",
    "sinks.*.max-age",
    "sinks.*.max-message-size",
    "routes.name",
    "routes.sources",
    "routes.types",
    "routes.to.sink",
    "routes.to.path",
    "routes.to.topic",
    "routes.to.key",
    "routes.to.exchange",
    "routes.to.routing-key",
    "routes.to.stream",
];

/// The ranges of a configuration to be masked. Where its syntax is broken its tables cannot be trusted, and lines are
/// looked at instead.
pub(super) fn masked(text: &str, root: &DeTable<'_>, broken: bool) -> Vec<Range<usize>> {
    if broken {
        return by_lines(text);
    }
    let mut walk = Walk::default();
    walk.table(root, &mut Vec::new());
    let Walk { mut masked, texts } = walk;
    masked.extend(comments(text, &texts));
    masked
}

/// Whether a text looks like a secret or a key: with a known prefix, or with a long word that is mixed as only random
/// text is.
pub(super) fn looks_secret(text: &str) -> bool {
    let known = ["whsec_", "whsk_", "sk_", "shpss_", "xox"].iter().any(|prefix| text.starts_with(prefix));
    known && text.len() > 8 || text.split(['-', '_']).any(is_random)
}

fn is_random(word: &str) -> bool {
    let one_word = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
    let digits = has(u8::is_ascii_digit);
    let mixed = digits && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let hex = digits && word.len() >= 24 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    one_word && word.len() >= 16 && (mixed || hex)
}

#[derive(Default)]
struct Walk {
    masked: Vec<Range<usize>>,
    /// All texts and keys, in which a `#` begins no comment.
    texts: Vec<Range<usize>>,
}

impl Walk {
    fn table<'t>(&mut self, table: &'t DeTable<'_>, path: &mut Vec<&'t str>) {
        for (key, value) in table.iter() {
            self.texts.push(key.span());
            if looks_secret(key.get_ref()) {
                self.masked.push(key.span());
            }
            path.push(key.get_ref());
            self.value(value.get_ref(), value.span(), path);
            path.pop();
        }
    }

    fn value<'t>(&mut self, value: &'t DeValue<'_>, span: Range<usize>, path: &mut Vec<&'t str>) {
        match value {
            DeValue::Table(table) => self.table(table, path),
            DeValue::Array(elements) => {
                for element in elements.iter() {
                    self.value(element.get_ref(), element.span(), path);
                }
            }
            DeValue::String(text) => {
                self.texts.push(span.clone());
                // A URL may hold a password, in front of an `@`.
                if !is_shown(path) || looks_secret(text) || text.contains('@') {
                    self.masked.push(span);
                }
            }
            _ => {}
        }
    }
}

fn is_shown(path: &[&str]) -> bool {
    SHOWN.iter().any(|shown| {
        let mut keys = shown.split('.');
        path.iter().all(|key| keys.next().is_some_and(|shown| shown == "*" || shown == *key))
            && keys.next().is_none()
    })
}

/// The contents of all comments.
fn comments(text: &str, texts: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        let in_text = |at: usize| texts.iter().any(|range| range.contains(&at));
        let hash = line.match_indices('#').map(|(at, _)| start + at).find(|at| !in_text(*at));
        found.extend(hash.map(|hash| hash + 1..end.max(hash + 1)));
        start += line.len();
    }
    found
}

/// What to mask of a text that could not be read: all behind the first `=` of a line, and all of a line that is
/// neither a key nor the head of a table.
fn by_lines(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = line.trim_end().len();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"[]._-\" ".contains(&byte);
        let harmless = |text: &str| {
            text.bytes().all(is_name) && !text.split(['[', ']', '.', '"', ' ']).any(looks_secret)
        };
        let from = match line.find('=') {
            Some(equals) if harmless(&line[..equals]) => equals + 1,
            None if line.trim_start().starts_with('[') && harmless(line.trim()) => end,
            _ => 0,
        };
        found.extend((from < end).then_some(start + from..start + end));
        start += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_names() {
        for secret in [
            "whsec_C2FVsBQIhrscChlQIMV",
            "zKOov76vvXvE9lTCxrTnpGd/1bVI8WghX01cZuFK8Mc=",
            "9d315659102c8af8aca75a6f90d4f8cf",
        ] {
            assert!(looks_secret(secret), "{secret}");
        }
        for name in [
            "fastpix",
            "FASTPIX_SIGNING_SECRET",
            "video.media.*",
            "/run/secrets/fastpix.old",
            "{source}/{type}.ndjson",
            "X-Hub-Signature-256",
            "header:webhook-id",
            "publish-timeout",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
