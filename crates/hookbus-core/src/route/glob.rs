//! Patterns over event types: `*` is any run of characters, dots included; ASCII case does not matter.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// One entry of a route's `types`: a pattern, or with `!` an exclusion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypePattern {
    excludes: bool,
    /// The literal texts between the stars, in lower case; the first and last may be empty.
    literals: Box<[Box<str>]>,
}

/// A pattern that cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadPattern {
    /// Nothing there.
    #[error("a type pattern cannot be empty")]
    Empty,
    /// Two stars side by side.
    #[error("`**` means the same as `*`, which crosses dots")]
    DoubleStar,
    /// Longer than any type.
    #[error("a type pattern is at most 256 bytes long")]
    TooLong,
}

impl FromStr for TypePattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let (excludes, pattern) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if pattern.is_empty() {
            return Err(BadPattern::Empty);
        }
        if pattern.contains("**") {
            return Err(BadPattern::DoubleStar);
        }
        if pattern.len() > 256 {
            return Err(BadPattern::TooLong);
        }
        let literals = pattern.split('*').map(|literal| literal.to_ascii_lowercase().into()).collect();
        Ok(Self { excludes, literals })
    }
}

impl TypePattern {
    /// The pattern that every type matches.
    pub(super) fn any() -> Self {
        Self { excludes: false, literals: Box::new([Box::default(), Box::default()]) }
    }

    /// Whether it takes types away instead of adding them.
    pub fn excludes(&self) -> bool {
        self.excludes
    }

    /// Whether every type matches it.
    pub fn is_catch_all(&self) -> bool {
        self.literals.iter().all(|literal| literal.is_empty())
    }

    /// Whether it alone takes a type.
    pub fn takes(&self, event_type: &str) -> bool {
        self.matches(&event_type.to_ascii_lowercase()) != self.excludes
    }

    /// The literal texts that every matching type contains.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.literals.iter().map(|literal| &**literal).filter(|literal| !literal.is_empty())
    }

    /// Whether a type, given in lower case, matches the pattern itself. Linear: each literal is taken at its first
    /// place behind the one before, and the last one at the end.
    pub(super) fn matches(&self, lower: &str) -> bool {
        let [first, middle @ .., last] = &*self.literals else {
            return *lower == *self.literals[0];
        };
        let Some(mut rest) = lower.strip_prefix(&**first) else { return false };
        for literal in middle {
            match rest.find(&**literal) {
                Some(at) => rest = &rest[at + literal.len()..],
                None => return false,
            }
        }
        rest.ends_with(&**last)
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.excludes { "!" } else { "" }, self.literals.join("*"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        pattern.parse::<TypePattern>().unwrap().matches(&event_type.to_ascii_lowercase())
    }

    #[test]
    fn stars_cross_dots_and_case_does_not_matter() {
        assert!(matches("video.media.*", "video.media.upload.cancelled"));
        assert!(matches("video.media.*", "Video.Media."));
        assert!(matches("*.created", "Video.media.live_stream.created"));
        assert!(matches("*live*", "video.media.live_stream.created"));
        assert!(matches("a*b*c", "aXbXbXc"));
        assert!(matches("*", ""));
        assert!(!matches("video.media", "video.media.ready"));
        assert!(!matches("a*a", "a"));
        assert!(!matches("video?media", "video.media"));
        assert!(!matches("ÄB", "äb"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!("".parse::<TypePattern>(), Err(BadPattern::Empty));
        assert_eq!("!".parse::<TypePattern>(), Err(BadPattern::Empty));
        assert_eq!("a**".parse::<TypePattern>(), Err(BadPattern::DoubleStar));
        assert_eq!("a".repeat(257).parse::<TypePattern>(), Err(BadPattern::TooLong));
    }

    /// The textbook definition, exponential and plainly right.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| oracle(rest, &text[at..])),
            Some((byte, rest)) => text.first() == Some(byte) && oracle(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab.]{0,3}(\\*[ab.]{1,2}){0,3}\\*?", text in "[ab.]{0,9}") {
            prop_assume!(!pattern.is_empty());
            prop_assert_eq!(matches(&pattern, &text), oracle(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
