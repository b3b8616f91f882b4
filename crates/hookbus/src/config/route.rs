//! `[[routes]]`: which events go where.

use std::{ops::Range, sync::Arc};

use hookbus_core::{
    Format, Redaction,
    config::{self, Problem, Table, quoted},
    form::Redactions,
    nearest,
    registry::SinkType,
    route::{Route, Target, Template, TypePattern},
    sink::AddressKey,
};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Spanned, de::DeValue};

use super::future::{self, Place};

/// What routes may refer to.
pub(super) struct Names<'a> {
    pub(super) sources: &'a [Arc<str>],
    /// Sinks by name; their type only where it is known.
    pub(super) sinks: &'a [(Arc<str>, Option<&'a SinkType>)],
    /// What must not be seen of the sources' events; nothing where a source could not be read.
    pub(super) redactions: Option<&'a Redactions>,
}

/// A `[[routes]]` table without `to`, whose keys depend on the sink.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "route")]
pub(super) struct RouteTable {
    /// A name for people: in logs and dead letters.
    #[schemars(with = "String")]
    name: Spanned<String>,
    /// The sources it listens to. Default: all.
    #[schemars(with = "Option<Vec<String>>")]
    sources: Option<Spanned<Vec<Spanned<String>>>>,
    /// The event types it takes: `*` is any run of characters, dots included; `!` excludes. Default: all.
    #[schemars(with = "Option<Vec<String>>")]
    types: Option<Spanned<Vec<Spanned<String>>>>,
}

/// A route with its place and name's place, for checks across routes.
pub(super) struct Placed {
    pub(super) route: Route,
    pub(super) name: Range<usize>,
    /// What deserves a warning.
    pub(super) warnings: Vec<Problem>,
}

pub(super) fn read(mut table: Table<'_>, names: &Names<'_>) -> Result<Placed, Vec<Problem>> {
    let mut problems = Vec::new();
    future::refuse(Place::Route, &mut table, &mut problems);
    let to = table.take("to");
    let (mut targets, mut warnings) = (Vec::<(Target, Range<usize>)>::new(), Vec::new());
    match to {
        None => {
            problems
                .push(Problem::new(table.span(), "a route needs `to`").help("to = [{ sink = \"NAME\" }]"));
        }
        Some((_, value)) => match value.get_ref() {
            DeValue::Array(elements) if !elements.is_empty() => {
                for element in elements.iter() {
                    match element.get_ref() {
                        DeValue::Table(entries) => {
                            match target(Table::new(element.span(), entries.clone()), names, &mut warnings) {
                                Ok(found) => targets.push(found),
                                Err(more) => problems.extend(more),
                            }
                        }
                        _ => problems.push(Problem::new(
                            element.span(),
                            "expected a table such as { sink = \"NAME\" }",
                        )),
                    }
                }
            }
            _ => {
                let problem = Problem::new(value.span(), "`to` must be a list with one destination or more");
                problems.push(problem.help("to = [{ sink = \"NAME\" }]"));
            }
        },
    }
    let read: RouteTable = match config::read(&table) {
        Ok(read) => read,
        Err(more) => {
            problems.extend(more);
            return Err(problems);
        }
    };
    for (key, list) in [("sources", &read.sources), ("types", &read.types)] {
        if let Some(list) = list.as_ref().filter(|list| list.get_ref().is_empty()) {
            let problem = Problem::new(list.span(), format!("an empty `{key}` would take nothing"));
            problems.push(problem.help("leave it out to take all"));
        }
    }
    let each = |list: &Option<Spanned<Vec<Spanned<String>>>>| {
        list.as_ref().map_or_else(Vec::new, |list| list.get_ref().clone())
    };
    let mut sources = Vec::new();
    for name in &each(&read.sources) {
        match names.sources.iter().find(|source| ***source == **name.get_ref()) {
            Some(source) => sources.push(Arc::clone(source)),
            None => problems.push(dangling("source", name.get_ref(), name.span(), names.sources.iter())),
        }
    }
    let mut types = Vec::new();
    for pattern in &each(&read.types) {
        match pattern.get_ref().parse::<TypePattern>() {
            Ok(parsed) => types.push(parsed),
            Err(error) => problems.push(Problem::new(pattern.span(), error.to_string())),
        }
    }
    if let Some(redactions) = names.redactions {
        let all = if sources.is_empty() { names.sources } else { &sources };
        let redactions: Vec<_> = all.iter().filter_map(|source| redactions.of(source)).collect();
        problems.extend(targets.iter().filter_map(|(target, span)| check_masking(target, span, &redactions)));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let targets = targets.into_iter().map(|(target, _)| target).collect();
    let name = read.name.span();
    let route = Route { name: read.name.into_inner().into(), sources, types, to: targets };
    Ok(Placed { route, name, warnings })
}

fn target(
    mut table: Table<'_>,
    names: &Names<'_>,
    warnings: &mut Vec<Problem>,
) -> Result<(Target, Range<usize>), Vec<Problem>> {
    let mut problems = Vec::new();
    let Some((_, sink)) = table.take("sink") else {
        problems.push(Problem::new(table.span(), "a destination needs `sink`").help("{ sink = \"NAME\" }"));
        return Err(problems);
    };
    let Some(name) = sink.get_ref().as_str() else {
        problems.push(Problem::new(sink.span(), "`sink` must be the name of a sink"));
        return Err(problems);
    };
    let Some(at) = names.sinks.iter().position(|(known, _)| **known == *name) else {
        problems.push(dangling("sink", name, sink.span(), names.sinks.iter().map(|(name, _)| name)));
        return Err(problems);
    };
    // A sink whose type is unknown was reported where it stands; its addresses cannot be judged.
    let Some(sink_type) = names.sinks[at].1 else { return Err(problems) };
    let format = format(&mut table, sink_type, &mut problems);
    let (redact, redact_at) = redact(&mut table, &mut problems);
    let mut address: Vec<(AddressKey, Template)> = Vec::new();
    for key in sink_type.address() {
        let template = match table.take(key.name()) {
            Some((_, value)) => match template(key, &value) {
                Ok(template) => {
                    if key.decides_order() && template.differs_within_group() {
                        let message = format!(
                            "events of one subject may get different {}s, and lose their order",
                            key.name()
                        );
                        let help = "use {subject} and {source} only, or accept that";
                        warnings.push(Problem::new(value.span(), message).help(help));
                    }
                    Some(template)
                }
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            },
            // Invariant: defaults are part of the program; a test reads every one.
            None => key.default().and_then(|text| text.parse().ok()),
        };
        match template {
            Some(template) => address.push((*key, template)),
            None if key.is_required() => {
                let message =
                    format!("a destination at a `{}` sink needs `{}`", sink_type.name(), key.name());
                problems.push(Problem::new(table.span(), message));
            }
            None => {}
        }
    }
    let known = || sink_type.address().iter().map(AddressKey::name).chain(["sink", "format", "redact"]);
    problems.extend(table.iter().map(|(span, key, _)| {
        let problem = Problem::unknown_key(span, key, known());
        Problem { message: format!("a `{}` sink has no address key `{key}`", sink_type.name()), ..problem }
    }));
    match problems.is_empty() {
        true => Ok((Target { sink: at, address, format, redact }, redact_at)),
        false => Err(problems),
    }
}

/// How events are put there. A type of sink that has one way only does what it does without being told.
fn format(table: &mut Table<'_>, sink_type: &SinkType, problems: &mut Vec<Problem>) -> Format {
    let Some((_, value)) = table.take("format") else { return Format::default() };
    let problem = match value.get_ref().as_str().map(str::parse::<Format>) {
        None => Problem::new(value.span(), "`format` must be a text").help("\"binary\" or \"structured\""),
        Some(Err(known)) => Problem::new(value.span(), "there is no such format").help(known),
        Some(Ok(format)) => match sink_type.formats() {
            formats if !formats.contains(&format) => {
                let can = quoted(formats.iter().map(|format| format.as_str()));
                let message = format!("a `{}` sink has no format `{format}`", sink_type.name());
                Problem::new(value.span(), message).help(format!("it has {can}: leave `format` out"))
            }
            [_] => return Format::default(),
            _ => return format,
        },
    };
    problems.push(problem);
    Format::default()
}

/// Whether values are masked there, and where that is said.
fn redact(table: &mut Table<'_>, problems: &mut Vec<Problem>) -> (bool, Range<usize>) {
    let Some((_, value)) = table.take("redact") else { return (false, table.span()) };
    let redact = value.get_ref().as_bool();
    if redact.is_none() {
        let help = "which values that are is said by `redact` of their source";
        problems.push(Problem::new(value.span(), "`redact` is true or false here").help(help));
    }
    (redact.unwrap_or(false), value.span())
}

/// What is wrong with a destination: there is nothing that it could mask, or its address shows what must not be seen, in
/// logs too.
fn check_masking(target: &Target, span: &Range<usize>, redactions: &[&Redaction]) -> Option<Problem> {
    if target.redact && redactions.is_empty() {
        let problem = Problem::new(span.clone(), "no source of this route says what to mask");
        return Some(problem.help("[sources.NAME]\nredact = [\"/data/streamKey\"]"));
    }
    let shown = |(key, template): &(AddressKey, Template)| {
        let pointer = redactions.iter().find_map(|redaction| template.shows(redaction))?;
        Some(format!(
            "`{}` shows the value at {pointer}, which `redact` of its source says not to",
            key.name()
        ))
    };
    target.address.iter().find_map(shown).map(|message| Problem::new(span.clone(), message))
}

fn template(key: &AddressKey, value: &Spanned<DeValue<'_>>) -> Result<Template, Problem> {
    let Some(text) = value.get_ref().as_str() else {
        return Err(Problem::new(value.span(), format!("`{}` must be a text", key.name())));
    };
    let template: Template = text.parse().map_err(|error| Problem::new(value.span(), format!("{error}")))?;
    if template.is_fixed() {
        key.check(text).map_err(|why| Problem::new(value.span(), format!("this {} {why}", key.name())))?;
    }
    Ok(template)
}

fn dangling<'a>(
    what: &str,
    name: &str,
    span: Range<usize>,
    known: impl Iterator<Item = &'a Arc<str>> + Clone,
) -> Problem {
    let problem = Problem::new(span, format!("there is no {what} `{name}`"));
    match nearest(name, known.clone().map(|known| &**known)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("there are {}", quoted(known.map(|known| &**known)))),
    }
}
