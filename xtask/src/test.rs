//! Runs every test of the workspace and adds up what they say.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, ExitCode, Stdio},
};

use crate::{
    run::{Result, announce, cargo, exists, output, run},
    workspace::Workspace,
};

/// One selection of packages and features for everything, so that nothing is compiled twice.
const SELECTION: [&str; 2] = ["--workspace", "--all-features"];

/// What the tests need beside Rust: a program and the Debian packages that bring it.
const TOOLS: [(&str, &[&str]); 1] = [("cc", &["gcc", "libc6-dev"])];

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Summary {
    /// Adds what one line of the output says, if it is the closing line of a test binary or of doc tests.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.trim_start().strip_prefix("test result: ") else { return };
        let counts = counts.split_once(". ").map_or(counts, |(_, counts)| counts);
        for count in counts.split(';') {
            let Some((number, what)) = count.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Builds and tests; the last line of stdout is the sum, whatever happened.
pub(crate) fn test(_: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut summary = Summary::default();
    let outcome = build_and_test(arguments, &mut summary);
    let outcome = outcome.and_then(|()| match summary {
        Summary { failed: 0, passed: 1.., .. } => Ok(()),
        Summary { failed: 0, .. } => Err("no test ran".into()),
        _ => Err("tests failed".into()),
    });
    if let Err(error) = &outcome {
        eprintln!("error: {error}");
    }
    println!("{summary}");
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build_and_test(arguments: &[String], summary: &mut Summary) -> Result {
    for (program, packages) in TOOLS {
        install(program, packages)?;
    }
    // The end-to-end tests start the binaries. Built together with the test targets, because features that
    // dev-dependencies ask for count only then: apart, what both need would be compiled once for each.
    run(cargo(["build", "--bins", "--tests"]).args(SELECTION))?;
    let mut command = cargo(["test", "--no-fail-fast"]);
    command.args(SELECTION).args(arguments).stdout(Stdio::piped());
    let line = announce(&command);
    let mut child = command.spawn().map_err(|error| format!("cannot run `{line}`: {error}"))?;
    if let Some(stdout) = child.stdout.take() {
        let mut ours = std::io::stdout().lock();
        for bytes in BufReader::new(stdout).split(b'\n') {
            let bytes = bytes.map_err(|error| format!("cannot read the output of `{line}`: {error}"))?;
            summary.add(&String::from_utf8_lossy(&bytes));
            let written =
                ours.write_all(&bytes).and_then(|()| ours.write_all(b"\n")).and_then(|()| ours.flush());
            written.map_err(|error| format!("cannot write to stdout: {error}"))?;
        }
    }
    let status = child.wait().map_err(|error| format!("cannot wait for `{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed: {status}")) }
}

/// Makes sure that a program is there; on Debian, as root, by installing it.
fn install(program: &str, packages: &[&str]) -> Result {
    if exists(program, "--version") {
        return Ok(());
    }
    let packages_text = packages.join(" ");
    let root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !root || !exists("apt-get", "--version") {
        return Err(format!("`{program}` is missing; on Debian: apt-get install {packages_text}"));
    }
    run(Command::new("apt-get").arg("update"))?;
    run(Command::new("apt-get").args(["install", "-y", "--no-install-recommends"]).args(packages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_and_others_are_not() {
        let mut summary = Summary::default();
        for line in [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result_is_kept ... ok",
            "the line `test result: ok. 5 passed` within a text",
        ] {
            summary.add(line);
        }
        assert_eq!(summary, Summary { passed: 14, failed: 3, skipped: 1 });
        assert_eq!(summary.to_string(), "14 passed, 3 failed, 1 skipped");
    }
}
