//! One automaton over all type patterns of a source.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};
use smallvec::SmallVec;

use super::glob::TypePattern;

/// Finds the routes that take a type, without asking each of them.
///
/// Every pattern with literal text is filed under one of its literals, the one fewest patterns share. A type is
/// scanned once for all those literals, and only patterns whose literal occurs are compared in full. Patterns
/// without text match every type.
pub(super) struct TypeIndex {
    /// Which patterns are filed under which literal, by the automaton's number of the literal.
    scanner: Option<AhoCorasick>,
    filed: Vec<Vec<Entry>>,
    /// Routes with a pattern that matches everything.
    catch_all: Vec<usize>,
}

struct Entry {
    route: usize,
    pattern: TypePattern,
}

impl TypeIndex {
    pub(super) fn new<'a>(routes: impl Iterator<Item = (usize, &'a [TypePattern])>) -> Self {
        let mut entries = Vec::new();
        let mut catch_all = Vec::new();
        for (route, types) in routes {
            let mut add = |pattern: &TypePattern| match pattern.literals().next() {
                Some(_) => entries.push(Entry { route, pattern: pattern.clone() }),
                None if !pattern.excludes() => catch_all.push(route),
                // `!*`: the route takes nothing, which its other patterns cannot change.
                None => entries.push(Entry { route, pattern: pattern.clone() }),
            };
            types.iter().for_each(&mut add);
            if types.iter().all(TypePattern::excludes) {
                add(&TypePattern::any());
            }
        }
        let nothing: Vec<usize> =
            entries.iter().filter(|entry| entry.pattern.is_catch_all()).map(|entry| entry.route).collect();
        entries.retain(|entry| !nothing.contains(&entry.route));
        catch_all.retain(|route| !nothing.contains(route));
        catch_all.dedup();
        let (literals, filed) = file(entries);
        // A prefilter restarts at every dot of a type and costs more than it saves. Case is folded in `matching`; sixteen thousand short literals still build in milliseconds.
        let scanner =
            AhoCorasick::builder().match_kind(MatchKind::Standard).prefilter(false).build(&literals).ok();
        debug_assert!(scanner.is_some(), "literals of at most 256 bytes always fit");
        Self { scanner: scanner.filter(|_| !literals.is_empty()), filed, catch_all }
    }

    /// The routes that take this type, in their order.
    pub(super) fn matching(&self, event_type: &str) -> SmallVec<[usize; 8]> {
        let mut taken: SmallVec<[usize; 8]> = SmallVec::from_slice(&self.catch_all);
        let mut excluded: SmallVec<[usize; 8]> = SmallVec::new();
        if let Some(scanner) = &self.scanner {
            let lower = event_type.to_ascii_lowercase();
            let mut seen: SmallVec<[u32; 16]> = SmallVec::new();
            for found in scanner.find_overlapping_iter(&lower) {
                let literal = found.pattern();
                if seen.contains(&literal.as_u32()) {
                    continue;
                }
                seen.push(literal.as_u32());
                for entry in
                    self.filed[literal.as_usize()].iter().filter(|entry| entry.pattern.matches(&lower))
                {
                    if entry.pattern.excludes() { &mut excluded } else { &mut taken }.push(entry.route);
                }
            }
        }
        taken.sort_unstable();
        taken.dedup();
        if !excluded.is_empty() {
            excluded.sort_unstable();
            taken.retain(|route| excluded.binary_search(route).is_err());
        }
        taken
    }
}

/// Files each pattern under the literal that fewest patterns share, the longest of those.
fn file(entries: Vec<Entry>) -> (Vec<String>, Vec<Vec<Entry>>) {
    let mut shared: HashMap<String, usize> = HashMap::new();
    for literal in entries.iter().flat_map(|entry| entry.pattern.literals()) {
        *shared.entry(literal.to_owned()).or_default() += 1;
    }
    let (mut literals, mut filed, mut places) = (Vec::new(), Vec::<Vec<Entry>>::new(), HashMap::new());
    for entry in entries {
        let rarest =
            entry.pattern.literals().min_by_key(|literal| (shared[*literal], usize::MAX - literal.len()));
        let Some(literal) = rarest.map(str::to_owned) else { continue };
        let place = *places.entry(literal.clone()).or_insert_with(|| {
            literals.push(literal);
            filed.push(Vec::new());
            filed.len() - 1
        });
        filed[place].push(entry);
    }
    (literals, filed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(texts: &[&str]) -> Vec<TypePattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Asks every route in turn.
    fn oracle(routes: &[Vec<TypePattern>], event_type: &str) -> Vec<usize> {
        let lower = event_type.to_ascii_lowercase();
        let takes = |types: &Vec<TypePattern>| {
            let (out, wanted): (Vec<_>, Vec<_>) = types.iter().partition(|pattern| pattern.excludes());
            (wanted.is_empty() || wanted.iter().any(|p| p.matches(&lower)))
                && !out.iter().any(|p| p.matches(&lower))
        };
        routes.iter().enumerate().filter(|(_, types)| takes(types)).map(|(at, _)| at).collect()
    }

    fn check(routes: &[Vec<TypePattern>], event_type: &str) {
        let index = TypeIndex::new(routes.iter().enumerate().map(|(at, types)| (at, types.as_slice())));
        assert_eq!(
            index.matching(event_type).to_vec(),
            oracle(routes, event_type),
            "{event_type} over {routes:?}"
        );
    }

    #[test]
    fn lists_with_exclusions() {
        let routes = [
            patterns(&["video.media.*", "!video.media.updated"]),
            patterns(&["!video.*"]),
            patterns(&[]),
            patterns(&["*"]),
            patterns(&["*.ready", "video.media.*"]),
            patterns(&["!*", "video.*"]),
            patterns(&["*", "!*.updated"]),
        ];
        for event_type in ["video.media.ready", "Video.Media.Updated", "cv-score-finished", "", "unknown"] {
            check(&routes, event_type);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_asking_every_route(
            routes in prop::collection::vec(prop::collection::vec("!?[ab.]{0,2}(\\*[ab.]{1,2}){0,2}\\*?", 0..4), 0..6),
            event_type in "[abAB.]{0,8}",
        ) {
            let parse = |text: &String| text.parse::<TypePattern>().ok();
            let routes: Vec<Vec<_>> = routes.iter().map(|types| types.iter().filter_map(parse).collect()).collect();
            check(&routes, &event_type);
        }
    }
}
