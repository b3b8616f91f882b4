//! Runs the conformance kit on every sink and shows one table: a line for each case, a column for each sink.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, ExitCode, Stdio},
};

use crate::{
    run::{Result, announce, cargo},
    workspace::Workspace,
};

/// The packages whose test `conformance` runs the kit, with the sinks in it: the module of the tests, and the type.
const PACKAGES: [(&str, &[(&str, &str)]); 5] = [
    ("hookbus-kafka", &[("conformance", "kafka")]),
    ("hookbus-rabbitmq", &[("conformance", "rabbitmq")]),
    ("hookbus-redis", &[("conformance", "redis")]),
    ("hookbus", &[("file", "file"), ("memory", "memory")]),
    ("custom-sink", &[("conformance", "collector")]),
];

/// What came of the cases: by case, then by sink.
#[derive(Debug, Default)]
struct Table {
    cases: BTreeMap<String, BTreeMap<&'static str, &'static str>>,
    /// Why cases were skipped, each reason once.
    reasons: BTreeSet<String>,
}

impl Table {
    /// Adds what a line of a package's test run says, if it says anything about a case.
    fn add(&mut self, sinks: &[(&str, &'static str)], line: &str) {
        if let Some(skipped) = line.strip_prefix("skipped: ") {
            let mut parts = skipped.splitn(3, ": ");
            let (Some(sink), Some(case), Some(reason)) = (parts.next(), parts.next(), parts.next()) else {
                return;
            };
            let Some((_, sink)) = sinks.iter().find(|(_, known)| *known == sink) else { return };
            self.cases.entry(case.to_owned()).or_default().insert(sink, "skipped");
            self.reasons.insert(format!("{sink}, {case}: {reason}"));
            return;
        }
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        let Some((module, case)) = name.split_once("::") else { return };
        let Some((_, sink)) = sinks.iter().find(|(known, _)| *known == module) else { return };
        let word = if outcome.starts_with("ok") { "ok" } else { "FAILED" };
        // A case that was skipped ends well too.
        self.cases.entry(case.to_owned()).or_default().entry(sink).or_insert(word);
    }

    fn show(&self) -> String {
        let sinks: Vec<_> =
            PACKAGES.iter().flat_map(|(_, sinks)| sinks.iter().map(|(_, sink)| *sink)).collect();
        let mut text = format!("| case | {} |\n|---|{}\n", sinks.join(" | "), "---|".repeat(sinks.len()));
        for (case, by_sink) in &self.cases {
            let cells: Vec<_> = sinks.iter().map(|sink| by_sink.get(sink).copied().unwrap_or("-")).collect();
            text += &format!("| {} | {} |\n", case.replace('_', " "), cells.join(" | "));
        }
        for reason in &self.reasons {
            text += &format!("\nskipped: {reason}");
        }
        text
    }

    fn failed(&self) -> bool {
        self.cases.is_empty() || self.cases.values().flat_map(BTreeMap::values).any(|word| *word == "FAILED")
    }
}

/// Runs them all; fails where a case does.
pub(crate) fn run(_: &Workspace) -> Result<ExitCode> {
    let mut table = Table::default();
    for (package, sinks) in PACKAGES {
        let mut command = cargo(["test", "--all-features", "--test", "conformance", "-p", package]);
        let line = announce(&command);
        let output = capture(&mut command).map_err(|error| format!("cannot run `{line}`: {error}"))?;
        let before = table.cases.len();
        output.lines().for_each(|line| table.add(sinks, line));
        if table.cases.is_empty() && before == 0 {
            return Err(format!("`{line}` ran no case:\n{output}"));
        }
    }
    println!("{}", table.show());
    Ok(if table.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a command writes, diagnostics first.
fn capture(command: &mut Command) -> std::io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let [stderr, stdout] =
        [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok(format!("{stderr}\n{stdout}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_filed_by_sink() {
        let sinks = [("file", "file"), ("memory", "memory")];
        let mut table = Table::default();
        for line in [
            "skipped: memory: positions_increase: there are none",
            "test file::one_event_arrives ... ok",
            "test memory::one_event_arrives ... FAILED",
            "test memory::positions_increase ... ok",
            "test other::one_event_arrives ... ok",
            "test result: ok. 3 passed",
        ] {
            table.add(&sinks, line);
        }
        let text = table.show();
        assert!(text.contains("| one event arrives | - | - | - | ok | FAILED | - |"), "{text}");
        assert!(text.contains("| positions increase | - | - | - | - | skipped | - |"), "{text}");
        assert!(text.ends_with("skipped: memory, positions_increase: there are none"), "{text}");
        assert!(table.failed());
    }
}
