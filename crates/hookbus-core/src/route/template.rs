//! Templates of addresses: `{source} {type} {id} {subject} {body:/json/pointer}` and literal text.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::{
    Redaction, VerifiedEvent,
    json::{Pointer, PointerSet},
};

/// A template as written in a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    parts: Vec<Part<Pointer>>,
}

/// A template whose body pointers have their slots.
pub(super) struct Compiled(Vec<Part<usize>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<P> {
    Literal(Box<str>),
    Source,
    Type,
    Id,
    Subject,
    Body(P, Box<str>),
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadTemplate {
    /// A brace without its partner.
    #[error("a brace has no partner; a literal brace cannot be written")]
    Brace,
    /// A placeholder that does not exist.
    #[error(
        "there is no placeholder `{{{0}}}`; there are {{source}}, {{type}}, {{id}}, {{subject}} and {{body:/json/pointer}}"
    )]
    Unknown(String),
    /// A pointer that is none.
    #[error("`{0}`: {1}")]
    Pointer(String, &'static str),
}

/// A placeholder that has no value for an event.
pub(super) struct Missing<'a>(&'a Part<usize>);

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Part::Body(_, pointer) => write!(f, "{{body:{pointer}}}"),
            _ => f.write_str("{subject}"),
        }
    }
}

impl FromStr for Template {
    type Err = BadTemplate;

    fn from_str(text: &str) -> Result<Self, BadTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            if at > 0 {
                parts.push(Part::Literal(rest[..at].into()));
            }
            let inner = rest[at..].strip_prefix('{').ok_or(BadTemplate::Brace)?;
            let (name, behind) = inner.split_once('}').ok_or(BadTemplate::Brace)?;
            parts.push(match name {
                "source" => Part::Source,
                "type" => Part::Type,
                "id" => Part::Id,
                "subject" => Part::Subject,
                _ => {
                    let pointer =
                        name.strip_prefix("body:").ok_or_else(|| BadTemplate::Unknown(name.to_owned()))?;
                    let parsed = Pointer::parse(pointer)
                        .map_err(|why| BadTemplate::Pointer(pointer.to_owned(), why))?;
                    Part::Body(parsed, pointer.into())
                }
            });
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Self { text: text.into(), parts })
    }
}

impl Template {
    /// The template as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it renders the same for every event.
    pub fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Whether it may render differently for events of one source and subject.
    pub fn differs_within_group(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Type | Part::Id | Part::Body(..)))
    }

    /// A value of the body it would show although it is to be masked, by its pointer.
    pub fn shows(&self, redaction: &Redaction) -> Option<&str> {
        self.parts.iter().find_map(|part| match part {
            Part::Body(pointer, text) if redaction.covers_all_of(pointer) => Some(&**text),
            _ => None,
        })
    }

    pub(super) fn compile(&self, pointers: &mut PointerSet) -> Compiled {
        let compile = |part: &Part<Pointer>| match part {
            Part::Literal(text) => Part::Literal(text.clone()),
            Part::Source => Part::Source,
            Part::Type => Part::Type,
            Part::Id => Part::Id,
            Part::Subject => Part::Subject,
            Part::Body(pointer, text) => Part::Body(pointers.add(pointer), text.clone()),
        };
        Compiled(self.parts.iter().map(compile).collect())
    }
}

impl Compiled {
    /// The template with this event's values.
    pub(super) fn render(
        &self,
        event: &VerifiedEvent,
        body: &mut impl FnMut(usize) -> Option<String>,
    ) -> Result<String, Missing<'_>> {
        let mut rendered = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => rendered.push_str(text),
                Part::Source => rendered.push_str(event.source()),
                Part::Type => rendered.push_str(event.event_type()),
                Part::Id => rendered.push_str(event.id().as_str()),
                Part::Subject => rendered.push_str(event.subject().ok_or(Missing(part))?),
                Part::Body(slot, _) => rendered.push_str(&body(*slot).ok_or(Missing(part))?),
            }
        }
        Ok(rendered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_or_refused() {
        assert!("hooks.media".parse::<Template>().unwrap().is_fixed());
        assert!(!"{source}.{type}".parse::<Template>().unwrap().is_fixed());
        assert!("{body:/a/b}".parse::<Template>().is_ok());
        assert_eq!("{subjcet}".parse::<Template>(), Err(BadTemplate::Unknown("subjcet".into())));
        assert_eq!("{source".parse::<Template>(), Err(BadTemplate::Brace));
        assert_eq!("a}b".parse::<Template>(), Err(BadTemplate::Brace));
        assert!(matches!("{body:a}".parse::<Template>(), Err(BadTemplate::Pointer(..))));
    }
}
