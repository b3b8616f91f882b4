//! Adds up what test binaries say at their end.

use std::{collections::BTreeSet, fmt};

/// How many tests ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Lines of tests that returned early, because they found no broker. A test that would need two says two lines.
    skipped: BTreeSet<String>,
}

impl Summary {
    /// Adds what one line of stdout says, if it is the closing line of a test binary or of doc tests.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(counts) = line.trim_start().strip_prefix("test result: ") else { return };
        let counts = counts.split_once(". ").map_or(counts, |(_, counts)| counts);
        for count in counts.split(';') {
            let Some((number, what)) = count.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Adds what one line of stderr says, if it is a test's `skipped: NAME: why`. To libtest that test passed.
    pub(crate) fn add_skipped(&mut self, line: &str) {
        if let Some((name, _)) = line.strip_prefix("skipped: ").and_then(|rest| rest.split_once(": ")) {
            self.skipped.insert(name.to_owned());
        }
    }

    /// Whether there is proof that all is well.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        match (self.failed, self.passed) {
            (0, 0) => Err("no test ran".into()),
            (0, _) => Ok(()),
            _ => Err("tests failed".into()),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.skipped.len() as u64;
        let passed = self.passed.saturating_sub(skipped);
        write!(f, "{passed} passed, {} failed, {} skipped", self.failed, self.ignored + skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_and_others_are_not() {
        let mut summary = Summary::default();
        assert_eq!(summary.verdict().unwrap_err(), "no test ran");
        for line in [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s",
            "test result_is_kept ... ok",
            "the line `test result: ok. 5 passed` within a text",
        ] {
            summary.add(line);
        }
        assert_eq!(summary.to_string(), "12 passed, 0 failed, 1 skipped");
        assert!(summary.verdict().is_ok());
        summary.add("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(summary.to_string(), "14 passed, 3 failed, 1 skipped");
        assert_eq!(summary.verdict().unwrap_err(), "tests failed");
    }

    #[test]
    fn a_test_that_found_no_broker_is_skipped_and_did_not_pass() {
        let mut summary = Summary::default();
        summary.add("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        for line in ["skipped: it::a: needs redis; run x", "skipped: it::a: needs kafka; run x", "skipped: ?"]
        {
            summary.add_skipped(line);
        }
        assert_eq!(summary.to_string(), "2 passed, 0 failed, 1 skipped");
    }
}
