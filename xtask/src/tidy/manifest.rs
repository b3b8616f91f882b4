//! Reads as much of a `Cargo.toml` as the rules need, with line numbers.

/// A key with its value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// The table it stands in, such as `dev-dependencies`.
    pub(super) table: &'a str,
    pub(super) key: &'a str,
    /// The value; one over several lines is joined.
    pub(super) value: String,
    pub(super) line: usize,
}

/// A dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dependency<'a> {
    pub(super) name: &'a str,
    pub(super) line: usize,
    /// Whether its version comes from the workspace, or there is none because it is a path.
    pub(super) inherited: bool,
}

/// All entries. Multi-line strings are not understood; no manifest needs one.
pub(super) fn entries(text: &str) -> Vec<Entry<'_>> {
    let (mut table, mut entries) = ("", Vec::<Entry<'_>>::new());
    let mut open = 0;
    for (index, line) in text.lines().enumerate() {
        let line = code(line);
        if open > 0 {
            open += depth(line);
            if let Some(entry) = entries.last_mut() {
                entry.value += line;
            }
        } else if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).trim();
        } else if let Some((key, value)) = line.split_once('=') {
            open = depth(value);
            entries.push(Entry { table, key: key.trim(), value: value.trim().to_owned(), line: index + 1 });
        }
    }
    entries
}

/// All dependencies, of whatever kind and target, in either way of writing.
pub(super) fn dependencies(text: &str) -> Vec<Dependency<'_>> {
    let mut found = Vec::<Dependency<'_>>::new();
    for entry in entries(text) {
        let (name, key) = match entry.table.rsplit_once("dependencies") {
            // [dependencies] name = .., or name.workspace = true
            Some((_, "")) => entry.key.split_once('.').unwrap_or((entry.key, "")),
            // [dependencies.name] workspace = true
            Some((_, name)) => (name.trim_start_matches('.'), entry.key),
            None => continue,
        };
        let inherited = match key {
            "" => has_key(&entry.value, "workspace") || has_key(&entry.value, "path"),
            key => key == "workspace" || key == "path",
        };
        match found.last_mut() {
            Some(last) if last.name == name && !key.is_empty() => last.inherited |= inherited,
            _ => found.push(Dependency { name, line: entry.line, inherited }),
        }
    }
    found
}

/// Whether an inline table has this key.
fn has_key(value: &str, key: &str) -> bool {
    let items = value.trim_matches(['{', '}']).split(',');
    value.starts_with('{')
        && items.filter_map(|item| item.split_once('=')).any(|(name, _)| name.trim() == key)
}

/// How many brackets a line opens, less those it closes.
fn depth(line: &str) -> i32 {
    outside_strings(line).fold(0, |depth, (_, c)| match c {
        '[' | '{' => depth + 1,
        ']' | '}' => depth - 1,
        _ => depth,
    })
}

/// The line without its comment.
fn code(line: &str) -> &str {
    let end = outside_strings(line).find(|(_, c)| *c == '#').map_or(line.len(), |(at, _)| at);
    line[..end].trim()
}

fn outside_strings(line: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    line.char_indices().filter(move |(_, c)| match quote {
        None if matches!(c, '"' | '\'') => {
            quote = Some(*c);
            false
        }
        None => true,
        Some(open) => {
            if open == *c {
                quote = None;
            }
            false
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_comments_and_values_over_several_lines_are_read() {
        let text =
            "# c\n[package]\nname = \"a#b\" # c\nkeywords = [\n  \"x\", # c\n]\n[[bin]]\nname = \"c\"\n";
        let entries = entries(text);
        let shown = entries.iter().map(|entry| (entry.table, entry.key, entry.value.as_str(), entry.line));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                ("package", "name", "\"a#b\"", 3),
                ("package", "keywords", "[\"x\",]", 4),
                ("bin", "name", "\"c\"", 8)
            ]
        );
    }

    #[test]
    fn dependencies_are_inherited_or_not() {
        let text = "[dependencies]\n\
            a.workspace = true\n\
            b = { workspace = true, features = [\"x\"] }\n\
            c = \"1\"\n\
            d = { version = \"1\", features = [\"workspace = true\"] }\n\
            e = { path = \"../e\" }\n\
            [target.'cfg(unix)'.dev-dependencies.f]\n\
            version = \"1\"\n\
            features = []\n\
            [build-dependencies.g]\n\
            features = []\n\
            workspace = true\n\
            [features]\n\
            h = [\"dep:a\"]\n";
        let found = dependencies(text);
        let shown = found.iter().map(|one| (one.name, one.line, one.inherited)).collect::<Vec<_>>();
        assert_eq!(
            shown,
            [
                ("a", 2, true),
                ("b", 3, true),
                ("c", 4, false),
                ("d", 5, false),
                ("e", 6, true),
                ("f", 8, false),
                ("g", 11, true)
            ]
        );
    }
}
