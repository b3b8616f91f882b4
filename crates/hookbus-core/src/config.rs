//! Reads tables of a configuration file so that every mistake is found at once, each with its place.
//!
//! A serde struct stops at its first mistake. [`read`] therefore compares the table with the type's JSON Schema to
//! find every unknown key, then deserialises again and again, each time without the entry that was at fault.

use std::{collections::BTreeSet, ops::Range};

use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value as Json;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use crate::nearest;

/// A mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The bytes of the file it is about.
    pub span: Range<usize>,
    /// What is wrong, as one line without a final period.
    pub message: String,
    /// What is allowed, or what was probably meant.
    pub help: Option<String>,
}

impl Problem {
    /// A mistake at these bytes of the file.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    /// Adds what is allowed, or what was probably meant.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The mistake of using a key that does not exist where others do.
    pub fn unknown_key<'a>(
        span: Range<usize>,
        key: &str,
        known: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        let problem = Self::new(span, format!("there is no key `{key}` here"));
        match nearest(key, known.clone()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!("allowed are {}", quoted(known))),
        }
    }
}

/// Names in backticks, separated by commas.
pub fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// A table without any keys.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A table of the configuration with the places of its keys and values.
#[derive(Clone, Debug)]
pub struct Table<'i> {
    span: Range<usize>,
    entries: DeTable<'i>,
}

impl<'i> Table<'i> {
    /// A table as the TOML parser found it at `span`.
    pub fn new(span: Range<usize>, entries: DeTable<'i>) -> Self {
        Self { span, entries }
    }

    /// Where the table stands.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Takes an entry out: the place of its key, and its value.
    pub fn take(&mut self, key: &str) -> Option<(Range<usize>, Spanned<DeValue<'i>>)> {
        let (key, value) = self.entries.remove_entry(key)?;
        Some((key.span(), value))
    }

    /// The keys with their places, and the values.
    pub fn iter(&self) -> impl Iterator<Item = (Range<usize>, &str, &Spanned<DeValue<'i>>)> {
        self.entries.iter().map(|(key, value)| (key.span(), &**key.get_ref(), value))
    }

    /// Whether there is an entry of this name, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// A mistake in the value of `key`, or in the table where it has no such key.
    pub fn problem_at(&self, key: &str, message: impl Into<String>) -> Problem {
        let span = self.entries.get(key).map_or(self.span.clone(), Spanned::span);
        Problem::new(span, message)
    }
}

/// Reads a table into a type that denies unknown fields.
///
/// # Errors
/// Every mistake in the table, in the order of the file.
pub fn read<T: DeserializeOwned + JsonSchema>(table: &Table<'_>) -> Result<T, Vec<Problem>> {
    match read_leniently(table) {
        (Some(read), problems) if problems.is_empty() => Ok(read),
        (_, problems) => Err(problems),
    }
}

/// Reads a table like [`read`], and also returns what is left of it without the entries that are wrong, so that the
/// rest can be looked at too. An entry that was left out looks like one that was not given: see [`Table::has`].
pub fn read_leniently<T: DeserializeOwned + JsonSchema>(table: &Table<'_>) -> (Option<T>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut value = DeValue::Table(table.entries.clone());
    let schema = schemars::schema_for!(T);
    Walk { root: schema.as_value() }.unknown_keys(schema.as_value(), &mut value, &mut problems);
    // What a misspelt key was probably meant to be is not missing as well.
    let hint = |problem: &Problem| {
        problem.help.as_deref()?.strip_prefix("did you mean `")?.split('`').next().map(str::to_owned)
    };
    let meant = problems.iter().filter_map(hint);
    let mut removed: BTreeSet<_> = meant.collect();
    // Each round either succeeds, or finds a mistake and removes the entry it stands in, so the loop ends. A field
    // that is missing because it was removed is no second mistake: then its table goes, and so on upwards.
    let left = loop {
        let attempt = T::deserialize(ValueDeserializer::from(Spanned::new(table.span(), value.clone())));
        let error = match attempt {
            Ok(read) => break Some(read),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(table.span());
        let message = error.message().trim_end().to_owned();
        let follows = message.starts_with("missing field")
            && removed.iter().any(|key| message.contains(&format!("`{key}`")));
        if !follows {
            problems.push(explained(narrowed(&value, span.clone(), &message), message));
        }
        let DeValue::Table(entries) = &mut value else { break None };
        match remove_innermost(entries, &span) {
            Some(key) => removed.insert(key),
            None => break None,
        };
    };
    problems.sort_by_key(|problem| problem.span.start);
    (left, problems)
}

/// Removes the innermost entry or element that holds `span`, and returns the key it stood at.
fn remove_innermost(entries: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let found = entries.iter().find(|(key, value)| holds(value.span()) || holds(key.span()))?;
    let key = found.0.get_ref().to_string();
    match entries.get_mut(key.as_str()).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => {
            if let Some(removed) = remove_innermost(inner, span) {
                return Some(removed);
            }
        }
        Some(DeValue::Array(elements)) => {
            let wrong = elements.iter().position(|element| holds(element.span()));
            if let Some(DeValue::Table(inner)) =
                wrong.and_then(|at| elements.get_mut(at)).map(Spanned::get_mut)
                && let Some(removed) = remove_innermost(inner, span)
            {
                return Some(removed);
            }
            if let Some(wrong) = wrong {
                let kept = elements.clone().into_iter().enumerate().filter(|(at, _)| *at != wrong);
                *elements = kept.map(|(_, element)| element).collect();
                return Some(key);
            }
        }
        _ => {}
    }
    entries.remove(key.as_str());
    Some(key)
}

/// The place of the key that a message about a whole table begins with, such as "`sig.headers` names no header".
fn narrowed(value: &DeValue<'_>, span: Range<usize>, message: &str) -> Range<usize> {
    let path = message.strip_prefix('`').and_then(|rest| rest.split_once('`')).map_or("", |(path, _)| path);
    let mut found = value.as_table().and_then(|entries| table_at(entries, &span));
    let mut narrowest = span;
    for key in path.split('.') {
        let Some(value) = found.and_then(|entries| entries.get(key)) else { break };
        narrowest = value.span();
        found = value.get_ref().as_table();
    }
    narrowest
}

/// The table that stands at exactly this place.
fn table_at<'t, 'i>(entries: &'t DeTable<'i>, span: &Range<usize>) -> Option<&'t DeTable<'i>> {
    entries.values().find_map(|value| {
        let inner = value.get_ref().as_table()?;
        if value.span() == *span { Some(inner) } else { table_at(inner, span) }
    })
}

/// Turns serde's words into ours: what is there, what is allowed, what was probably meant.
fn explained(span: Range<usize>, message: String) -> Problem {
    let names = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    if let Some((_, rest)) = message.split_once("unknown variant `")
        && let Some((found, rest)) = rest.split_once('`')
    {
        let allowed = names(rest);
        let problem = Problem::new(span, format!("`{found}` is not one of the values allowed here"));
        let allowed_text = format!("allowed are {}", quoted(allowed.iter().map(String::as_str)));
        return problem.help(match nearest(found, allowed.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`? {allowed_text}"),
            None => allowed_text,
        });
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return Problem::new(span, format!("the key {field} is missing here"));
    }
    match message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: ")) {
        Some(rest) => match rest.rsplit_once(", expected ") {
            Some((found, expected)) => {
                Problem::new(span, format!("expected {}, found {}", plain(expected), without_value(found)))
            }
            None => Problem::new(span, without_value(rest).to_owned()),
        },
        None => Problem::new(span, message),
    }
}

/// What serde found, without a text's content: it may be a secret that stands in the wrong place.
fn without_value(found: &str) -> &str {
    if found.starts_with("string ") { "a text" } else { found }
}

/// What serde expected, in words that are not Rust's.
fn plain(expected: &str) -> &str {
    match expected {
        "a string" => "a text",
        "a sequence" => "a list",
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    }
}

/// Walks a value and its JSON Schema side by side.
struct Walk<'s> {
    root: &'s Json,
}

impl<'s> Walk<'s> {
    /// Reports and removes every key the schema does not allow, at any depth.
    fn unknown_keys(&self, schema: &'s Json, value: &mut DeValue<'_>, problems: &mut Vec<Problem>) {
        let branches = self.branches(schema);
        match value {
            DeValue::Array(elements) => {
                let items = branches.iter().find_map(|branch| branch.get("items"));
                for element in elements.iter_mut().filter(|_| items.is_some()) {
                    self.unknown_keys(items.unwrap_or(&Json::Null), element.get_mut(), problems);
                }
            }
            DeValue::Table(entries) => {
                let properties = || {
                    branches
                        .iter()
                        .filter_map(|branch| branch.get("properties")?.as_object())
                        .flat_map(|members| members.iter())
                };
                let others = branches.iter().find_map(|branch| branch.get("additionalProperties"));
                let closed = others == Some(&Json::Bool(false));
                let mut unknown = Vec::new();
                for (key, value) in entries.iter_mut() {
                    let name: &str = key.get_ref();
                    match properties().find(|(known, _)| *known == name).map(|(_, schema)| schema).or(others)
                    {
                        Some(Json::Bool(false)) => {
                            let known = properties().map(|(name, _)| name.as_str());
                            problems.push(Problem::unknown_key(key.span(), name, known));
                            unknown.push(name.to_owned());
                        }
                        Some(schema) => self.unknown_keys(schema, value.get_mut(), problems),
                        None if closed => unknown.push(name.to_owned()),
                        None => {}
                    }
                }
                for key in unknown {
                    entries.remove(key.as_str());
                }
            }
            _ => {}
        }
    }

    /// The schema itself and all it refers to, without `null`.
    fn branches(&self, schema: &'s Json) -> Vec<&'s Json> {
        let mut found = vec![schema];
        let reference = schema
            .get("$ref")
            .and_then(Json::as_str)
            .and_then(|path| self.root.pointer(path.trim_start_matches('#')));
        let alternatives =
            ["anyOf", "oneOf", "allOf"].iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
        for branch in reference.into_iter().chain(alternatives) {
            found.extend(self.branches(branch));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{ByteSize, Duration};

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only what is wrong with it matters")]
    struct Outer {
        name: String,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        mode: Option<Mode>,
        #[serde(default)]
        list: Vec<String>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only what is wrong with it matters")]
    struct Inner {
        size: ByteSize,
        wait: Option<Duration>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        Fast,
        Safe,
    }

    fn problems(text: &str) -> Vec<(String, String, Option<String>)> {
        let table = DeTable::parse(text).unwrap();
        let table = Table::new(table.span(), table.into_inner());
        let found = read::<Outer>(&table).unwrap_err();
        found
            .into_iter()
            .map(|problem| (text[problem.span].to_owned(), problem.message, problem.help))
            .collect()
    }

    #[test]
    fn every_mistake_is_found_at_its_place() {
        let found = problems("nmae = 'x'\nmode = 'fsat'\ninner = { size = 3, wiat = '1s', wait = 'x' }\n");
        let places: Vec<_> = found.iter().map(|(place, ..)| place.as_str()).collect();
        assert_eq!(places, ["nmae", "'fsat'", "3", "wiat", "'x'"], "{found:#?}");
        assert_eq!(
            found[0].2.as_deref(),
            Some("did you mean `name`?"),
            "and so `name` is not missing as well"
        );
        assert_eq!(found[1].2.as_deref(), Some("did you mean `fast`? allowed are `fast`, `safe`"));
    }

    #[test]
    fn what_is_removed_is_not_reported_as_missing() {
        assert_eq!(problems("list = [1, 'a', true]\nname = 'x'\n").len(), 2);
        assert_eq!(problems("name = 3\n").len(), 1);
        assert_eq!(problems("mode = 'fast'\n")[0].1, "the key `name` is missing here");
        assert_eq!(problems("name = 'x'\ninner = { size = 3 }\n").len(), 1);
    }
}
