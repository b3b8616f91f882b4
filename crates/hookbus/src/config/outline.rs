//! What a configuration says, entry by entry: by this two of them are compared.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    fmt,
    hash::{Hash as _, Hasher as _},
};

use hookbus_core::config::Table;
use toml::de::DeValue;

/// Tables whose entries have names: each counts as a whole.
const NAMED: [(&str, &str); 2] = [("sources", "source"), ("sinks", "sink")];
/// Keys of a sink that its lane and its connection do not depend on.
const BESIDE_THE_SINK: [&str; 3] = ["max-pending", "when-full", "required"];

/// The entries of a configuration: each source, sink and route, and each key of every other section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    entries: BTreeMap<Entry, Definition>,
    /// Sinks without what may change while they stay as they are.
    sinks: BTreeMap<String, Definition>,
}

/// What an entry is, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    what: String,
    name: String,
}

/// Stands for what was written, in whatever order and layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Definition(u64);

/// How one configuration differs from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries that are new, such as `source fastpix`.
    pub added: Vec<String>,
    /// Entries that say something else.
    pub changed: Vec<String>,
    /// Entries that are gone.
    pub removed: Vec<String>,
}

impl Outline {
    /// The outline of a whole file.
    pub(super) fn of(root: &Table<'_>) -> Self {
        let mut outline = Self::default();
        for (_, section, value) in root.iter() {
            match (value.get_ref(), NAMED.iter().find(|(table, _)| *table == section)) {
                (DeValue::Table(tables), Some((_, what))) => {
                    for (name, table) in tables {
                        outline.insert(what, name.get_ref(), table.get_ref());
                    }
                }
                (DeValue::Array(routes), None) if section == "routes" => {
                    for route in routes.iter().map(toml::Spanned::get_ref) {
                        let name = route.as_table().and_then(|keys| keys.get("name")?.get_ref().as_str());
                        outline.insert("route", name.unwrap_or_default(), route);
                    }
                }
                (DeValue::Table(keys), None) => {
                    for (key, value) in keys {
                        outline.insert(section, key.get_ref(), value.get_ref());
                    }
                }
                (other, _) => outline.insert(section, "", other),
            }
        }
        outline
    }

    fn insert(&mut self, what: &str, name: &str, value: &DeValue<'_>) {
        self.entries.insert(Entry { what: what.into(), name: name.into() }, Definition::of(value, &[]));
        if what == "sink" {
            self.sinks.insert(name.into(), Definition::of(value, &BESIDE_THE_SINK));
        }
    }

    /// What has to be done to come from `old` to this.
    pub fn since(&self, old: &Self) -> Changes {
        let mut changes = Changes::default();
        for (entry, definition) in &self.entries {
            match old.entries.get(entry) {
                None => changes.added.push(entry.to_string()),
                Some(before) if before != definition => changes.changed.push(entry.to_string()),
                Some(_) => {}
            }
        }
        let gone = old.entries.keys().filter(|entry| !self.entries.contains_key(entry));
        changes.removed.extend(gone.map(Entry::to_string));
        changes
    }

    /// Whether a source is written as it was.
    pub(crate) fn has_same_source(&self, old: &Self, name: &str) -> bool {
        let entry = Entry { what: "source".into(), name: name.into() };
        self.entries.get(&entry).is_some_and(|mine| old.entries.get(&entry) == Some(mine))
    }

    /// Whether a sink is written as it was, but for what its connection does not depend on.
    pub(crate) fn has_same_sink(&self, old: &Self, name: &str) -> bool {
        self.sinks.get(name).is_some_and(|mine| old.sinks.get(name) == Some(mine))
    }
}

impl Changes {
    /// Whether both say the same.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, name } = self;
        match what.as_str() {
            "source" | "sink" | "route" => write!(f, "{what} {name}"),
            _ if name.is_empty() => f.write_str(what),
            _ => write!(f, "{what}.{name}"),
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        let mut first = true;
        for (word, entries) in parts.into_iter().filter(|(_, entries)| !entries.is_empty()) {
            let gap = if std::mem::take(&mut first) { "" } else { "; " };
            write!(f, "{gap}{word}: {}", entries.join(", "))?;
        }
        if first { f.write_str("nothing changed") } else { Ok(()) }
    }
}

impl Definition {
    fn of(value: &DeValue<'_>, without: &[&str]) -> Self {
        // Fixed keys, so that the same text is always the same; nobody gains by a collision in his own file.
        let mut hasher = DefaultHasher::new();
        write(value, without, &mut hasher);
        Self(hasher.finish())
    }
}

fn write(value: &DeValue<'_>, without: &[&str], hasher: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(hasher);
    match value {
        DeValue::String(text) => text.hash(hasher),
        DeValue::Integer(number) => number.to_string().hash(hasher),
        DeValue::Float(number) => number.to_string().hash(hasher),
        DeValue::Boolean(yes) => yes.hash(hasher),
        DeValue::Datetime(time) => time.to_string().hash(hasher),
        DeValue::Array(values) => {
            values.len().hash(hasher);
            values.iter().for_each(|value| write(value.get_ref(), &[], hasher));
        }
        DeValue::Table(entries) => {
            let mut entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| (&**key.get_ref(), value.get_ref()))
                .filter(|(key, _)| !without.contains(key))
                .collect();
            entries.sort_by_key(|(key, _)| *key);
            entries.len().hash(hasher);
            for (key, value) in entries {
                key.hash(hasher);
                write(value, &[], hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    fn outline(text: &str) -> Outline {
        let root = DeTable::parse(text).unwrap();
        Outline::of(&Table::new(root.span(), root.into_inner()))
    }

    const BEFORE: &str = r#"
        [server]
        listen = "127.0.0.1:1"
        limits = { body = "1MiB", requests = 7 }
        [sources.one]
        provider = "fastpix"
        secrets = [{ file = "a" }]
        [sources.two]
        provider = "fastgen"
        secrets = []
        [sinks.bus]
        type = "memory"
        max-pending = "1GiB"
        [[routes]]
        name = "all"
        to = [{ sink = "bus" }]
    "#;

    #[test]
    fn layout_and_order_do_not_matter() {
        let same = r#"
            routes = [{ to = [{ sink = "bus" }], name = "all" }]
            sinks.bus = { max-pending = "1GiB", type = "memory" } # the bus
            sources.two = { secrets = [], provider = "fastgen" }
            [sources.one]
            secrets = [{ "file" = 'a' }]
            provider = "fastpix"
            [server.limits]
            requests = 7
            body = "1MiB"
            [server]
            listen = "127.0.0.1:1"
        "#;
        let same =
            same.replace("[server.limits]\n            requests = 7\n            body = \"1MiB\"\n", "");
        let same = format!("{same}limits = {{ requests = 7, body = \"1MiB\" }}\n");
        let changes = outline(&same).since(&outline(BEFORE));
        assert_eq!(changes, Changes::default());
        assert_eq!(changes.to_string(), "nothing changed");
    }

    #[test]
    fn each_entry_is_named_that_differs() {
        let after = BEFORE
            .replace("127.0.0.1:1", "127.0.0.1:2")
            .replace("\"a\"", "\"b\"")
            .replace("sources.two", "sources.three")
            .replace("name = \"all\"", "name = \"all\"\ntypes = [\"a\"]");
        let changes = outline(&after).since(&outline(BEFORE));
        assert_eq!(
            changes.to_string(),
            "added: source three; changed: route all, server.listen, source one; removed: source two"
        );
    }

    #[test]
    fn a_quota_is_no_change_of_the_sink_itself() {
        let [quota, kind] =
            [("1GiB", "2GiB"), ("memory", "stdout")].map(|(a, b)| outline(&BEFORE.replace(a, b)));
        let before = outline(BEFORE);
        assert_eq!(quota.since(&before).to_string(), "changed: sink bus");
        assert!(quota.has_same_sink(&before, "bus") && !kind.has_same_sink(&before, "bus"));
        assert!(!before.has_same_sink(&before, "other"));
        assert!(before.has_same_source(&before, "one") && !before.has_same_source(&before, "three"));
    }
}
