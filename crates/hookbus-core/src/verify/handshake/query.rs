//! The parameters of a query.

use std::borrow::Cow;

use crate::verify::Refusal;

/// The only value of a parameter, decoded as forms are (`+` is a blank).
///
/// # Errors
/// [`Refusal::MalformedChallenge`] where it is there twice: which one counts would be a guess.
pub(super) fn unique<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(known, _)| *known == name);
    match (values.next(), values.next()) {
        (first, None) => Ok(first.map(|(_, value)| value)),
        _ => Err(Refusal::MalformedChallenge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_found_whole() {
        for (query, value) in [
            ("hub.challenge=1", Some("1")),
            ("a=b&hub.challenge=1+2%203%2B", Some("1 2 3+")),
            ("hub%2Echallenge=1", Some("1")),
            ("hub.challenge", Some("")),
            ("hub.challenges=1&xhub.challenge=2&HUB.challenge=3", None),
            ("", None),
        ] {
            assert_eq!(unique(query, "hub.challenge"), Ok(value.map(Cow::Borrowed)), "{query}");
        }
        assert_eq!(unique("a=1&a=1", "a"), Err(Refusal::MalformedChallenge));
        assert_eq!(unique("a=1&%61=2", "a"), Err(Refusal::MalformedChallenge));
    }
}
