//! What must not be shown when a mistake is: texts that may be secrets, wherever they were put.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Keys whose texts are never secrets. Everything else in a source or a sink is masked, whatever its key: a secret is
/// most often found where it does not belong.
const SHOWN: [&str; 33] = [
    "ack",
    "ack-timeout",
    "alg",
    "decode",
    "dir",
    "encoding",
    "env",
    "file",
    "from",
    "future",
    "headers",
    "id",
    "item-sep",
    "key",
    "kv-sep",
    "many",
    "order",
    "past",
    "path",
    "provider",
    "public-url",
    "publish-timeout",
    "require",
    "scheme",
    "sig",
    "signed",
    "strip",
    "subject",
    "tags",
    "time",
    "ts",
    "type",
    "unit",
];

/// The ranges of a configuration to be masked. Where its syntax is broken its tables cannot be trusted, and lines are
/// looked at instead.
pub(super) fn masked(text: &str, root: &DeTable<'_>, broken: bool) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    if broken {
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            ranges.extend(in_line(line).map(|range| start + range.start..start + range.end));
            start += line.len();
        }
        return ranges;
    }
    for section in ["sources", "sinks"] {
        if let Some(tables) = root.get(section).and_then(|section| section.get_ref().as_table()) {
            for table in tables.values() {
                in_value(table.get_ref(), table.span(), false, &mut ranges);
            }
        }
    }
    ranges
}

fn in_value(value: &DeValue<'_>, span: Range<usize>, shown: bool, ranges: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Table(entries) => {
            for (key, value) in entries.iter() {
                // `key` and `scheme` are tables; a text there is one that was mistaken for a secret's place.
                let name: &str = key.get_ref();
                let mistaken = matches!(name, "key" | "scheme" | "sig" | "ts" | "time")
                    && value.get_ref().is_str()
                    && !is_place(value.get_ref());
                let env = name == "env"
                    && value.get_ref().as_str().is_some_and(|name| !super::secret::is_variable(name));
                in_value(value.get_ref(), value.span(), SHOWN.contains(&name) && !mistaken && !env, ranges);
            }
        }
        DeValue::Array(elements) => {
            for element in elements.iter() {
                in_value(element.get_ref(), element.span(), shown, ranges);
            }
        }
        DeValue::String(_) if !shown => ranges.push(span),
        _ => {}
    }
}

/// Whether a text is a place in a request, such as `json:/time`.
fn is_place(value: &DeValue<'_>) -> bool {
    value.as_str().is_some_and(|text| {
        ["header:", "json:", "field:", "const:"].iter().any(|kind| text.starts_with(kind))
    })
}

/// What to mask of a line that could not be read: all behind `=`, or all from the first quote on.
fn in_line(line: &str) -> Option<Range<usize>> {
    let end = line.trim_end().len();
    let key = line.split('=').next().unwrap_or_default().trim().trim_matches('"');
    let harmless =
        ["listen", "provider", "type", "name", "types", "sources", "to", "dir", "path", "limits", "timeouts"];
    if harmless.contains(&key) || line.trim_start().starts_with(['[', '#']) && !line.contains(['"', '\'']) {
        return None;
    }
    // A long word on a line of its own may stand in a text of several lines.
    let word = || line.split_whitespace().any(|word| word.len() > 12).then_some(0);
    let start = line.find('=').map(|at| at + 1).or_else(|| line.find(['"', '\''])).or_else(word)?;
    (start < end).then_some(start..end)
}
