//! Runs every test of the workspace, with brokers for them, and adds up what they say.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    process::{Command, ExitCode, Stdio},
    thread,
};

use hookbus_brokers::{Need, provide};

use crate::{
    brokers::Lent,
    h2spec,
    run::{Result, announce, cargo, run},
    summary::Summary,
    workspace::Workspace,
};

/// One selection of packages and features for everything, so that nothing is compiled twice.
const SELECTION: [&str; 2] = ["--workspace", "--all-features"];

/// What builds and tests need beside Rust and the brokers.
const NEEDS: [Need; 7] = [
    Need { program: "cc", arguments: &["--version"], packages: &["gcc", "libc6-dev"] },
    // librdkafka is built from source.
    Need { program: "c++", arguments: &["--version"], packages: &["g++"] },
    Need { program: "make", arguments: &["--version"], packages: &["make"] },
    Need {
        program: "pkg-config",
        arguments: &["--exists", "zlib", "openssl"],
        packages: &["pkg-config", "zlib1g-dev", "libssl-dev"],
    },
    // Another implementation of TLS.
    Need { program: "openssl", arguments: &["version"], packages: &["openssl"] },
    // Lets an fsync of the bridge fail.
    Need { program: "strace", arguments: &["--version"], packages: &["strace"] },
    // Examples of consumers are run too. The system's own Python: that is the one Debian's packages are for.
    Need {
        program: "/usr/bin/python3",
        arguments: &["-c", "import pika, redis"],
        packages: &["python3", "python3-pika", "python3-redis"],
    },
];

/// Builds and tests; the last line of stdout is the sum, whatever happened.
pub(crate) fn test(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut summary = Summary::default();
    let outcome = build_and_test(workspace, arguments, &mut summary).and_then(|()| summary.verdict());
    if let Err(error) = &outcome {
        eprintln!("error: {error}");
    }
    println!("{summary}");
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build_and_test(workspace: &Workspace, arguments: &[String], summary: &mut Summary) -> Result {
    provide(&NEEDS).map_err(|error| error.to_string())?;
    // They need time to start, and the build does too.
    let brokers = thread::spawn(Lent::all);
    // The end-to-end tests start the binaries. Built together with the test targets, because features that
    // dev-dependencies ask for count only then: apart, what both need would be compiled once for each.
    let built = run(cargo(["build", "--bins", "--tests"]).args(SELECTION));
    let brokers = brokers.join().unwrap_or_else(|_| Err("the thread that starts brokers panicked".into()));
    built?;
    // Without brokers the other tests are still worth running; those that need one skip, or fail under `CI`.
    let brokers = brokers.unwrap_or_else(|error| {
        eprintln!("no brokers: {error}");
        Vec::new()
    });
    // It is written in Go, which nobody has to have: where it cannot be had its test is skipped, and says so.
    let h2spec = h2spec::where_go_is(workspace);
    let mut command = cargo(["test", "--no-fail-fast"]);
    command.envs(h2spec.map(|h2spec| (h2spec::VARIABLE, h2spec)));
    command.args(SELECTION).args(arguments).envs(brokers.iter().flat_map(Lent::variables));
    run_tests(&mut command, summary)
}

/// Runs the tests, shows what they say, and adds it up.
fn run_tests(command: &mut Command, summary: &mut Summary) -> Result {
    let line = announce(command);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("cannot run `{line}`: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Two sums, as two threads cannot add to one.
    let mut skipped = Vec::new();
    let copied = thread::scope(|scope| {
        let errors = scope.spawn(|| copy(stderr, io::stderr(), |line| skipped.push(line.to_owned())));
        let copied = copy(stdout, io::stdout(), |line| summary.add(line));
        copied.and(errors.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
    });
    skipped.iter().for_each(|line| summary.add_skipped(line));
    copied.map_err(|error| format!("cannot pass on the output of `{line}`: {error}"))?;
    let status = child.wait().map_err(|error| format!("cannot wait for `{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed: {status}")) }
}

/// Copies line by line, as it comes, and looks at each.
fn copy(from: Option<impl Read>, mut to: impl Write, mut look: impl FnMut(&str)) -> io::Result<()> {
    let lines = from.into_iter().flat_map(|from| BufReader::new(from).split(b'\n'));
    for bytes in lines {
        let mut bytes = bytes?;
        look(&String::from_utf8_lossy(&bytes));
        bytes.push(b'\n');
        to.write_all(&bytes)?;
        to.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_passed_on_as_it_is_and_looked_at_line_by_line() {
        let (mut copied, mut lines) = (Vec::new(), Vec::new());
        copy(Some(&b"a\n\xff\n"[..]), &mut copied, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(copied, b"a\n\xff\n");
        assert_eq!(lines, ["a", "\u{fffd}"]);
    }
}
