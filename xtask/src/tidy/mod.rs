//! The repository's own rules, those no other tool knows.
//!
//! A rule is a function from the tree to its findings. It reads nothing but the tree, so that its test is a few
//! lines of text. Every finding says why the rule exists: a rule nobody can defend is to be deleted.

mod manifest;
mod shape;
mod text;
mod tree;

use std::fmt;

use self::tree::Tree;
use crate::{run::Result, workspace::Workspace};

/// A place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    what: String,
    why: &'static str,
}

impl Finding {
    fn new(path: impl Into<String>, line: usize, what: impl Into<String>, why: &'static str) -> Self {
        Self { path: path.into(), line, what: what.into(), why }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what, why } = self;
        write!(f, "{path}:{line}: {what}: {why}")
    }
}

/// Checks all rules and shows all findings.
pub(crate) fn tidy(_: &Workspace) -> Result {
    let tree = Tree::load()?;
    let mut findings =
        text::RULES.iter().chain(shape::RULES).flat_map(|rule| rule(&tree)).collect::<Vec<_>>();
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(format!("{count} findings in {} files read", tree.files().count())),
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a rule finds in these files, as `path:line`.
    pub(super) fn places(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
        rule(&Tree::of(files)).iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
    }

    #[test]
    fn a_finding_names_its_place_and_its_reason() {
        let finding = Finding::new("src/lib.rs", 7, "a tab", "we write spaces");
        assert_eq!(finding.to_string(), "src/lib.rs:7: a tab: we write spaces");
    }
}
