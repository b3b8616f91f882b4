//! Finding the name a person meant.

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= word.len().max(candidate.len()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_names_only() {
        assert_eq!(nearest("lisen", ["listen", "limits"]), Some("listen"));
        assert_eq!(nearest("Topic", ["topic", "key"]), Some("topic"));
        assert_eq!(nearest("zzzzz", ["listen", "limits"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
