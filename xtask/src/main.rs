//! The workspace's automation: `cargo xtask` without arguments lists what there is.

// A command's result goes to stdout; that is what it is for.
#![expect(clippy::print_stdout, reason = "the output of a command line tool")]

mod bench;
mod brokers;
mod conformance;
mod fuzz;
mod h2spec;
mod lint;
mod new_sink;
mod run;
mod summary;
mod test;
mod tidy;
mod torture;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{run::Result, workspace::Workspace};

/// Tests, lints and measures this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build everything and run every test: unit, vectors, properties, end to end, doc tests, examples.
    Test {
        /// Passed on to `cargo test`, such as a filter.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run all the checks below but `advisories`, and say which failed.
    Lint,
    /// Check the formatting.
    Fmt,
    /// Run clippy over all targets with all features; a warning is an error.
    Clippy,
    /// Check each crate without features and with each of its features alone.
    Features,
    /// Build the documentation; a broken link is an error.
    Doc,
    /// Check licences, bans and sources of the dependencies (installs cargo-deny if missing).
    Deny,
    /// Check the repository's own rules.
    Tidy,
    /// Check the dependencies for known vulnerabilities. Apart from `lint`, because it needs the network.
    Advisories,
    /// Start and stop the brokers that tests share.
    #[command(subcommand)]
    Brokers(brokers::Brokers),
    /// Measure the bridge against a floor of the same run.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run the conformance kit on every sink, and show a table of all cases.
    Conformance,
    NewSink(new_sink::NewSink),
    /// Make a sink with `new-sink`, let it pass its tests, and remove it again.
    Scaffold,
    /// Feed a target of `fuzz/` with made-up input for a while (installs cargo-fuzz if missing; needs nightly Rust).
    Fuzz(fuzz::Fuzz),
    Torture(torture::Torture),
    /// Run h2spec, an independent suite for HTTP/2, against the bridge, in clear and over TLS (installs it with Go).
    H2spec,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let Some(command) = cli.command else {
        Cli::command().print_help().map_err(|error| format!("cannot print the help: {error}"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let workspace = Workspace::load()?;
    match command {
        Command::Test { arguments } => return test::test(&workspace, &arguments),
        Command::Lint => lint::lint(&workspace)?,
        Command::Fmt => lint::fmt(&workspace)?,
        Command::Clippy => lint::clippy(&workspace)?,
        Command::Features => lint::features(&workspace)?,
        Command::Doc => lint::doc(&workspace)?,
        Command::Deny => lint::deny(&workspace)?,
        Command::Tidy => tidy::tidy(&workspace)?,
        Command::Advisories => lint::advisories(&workspace)?,
        Command::Brokers(what) => what.run()?,
        Command::Bench(what) => what.run(&workspace)?,
        Command::Conformance => return conformance::run(&workspace),
        Command::NewSink(new_sink) => new_sink.run()?,
        Command::Scaffold => new_sink::check(&workspace)?,
        Command::Fuzz(fuzz) => fuzz.run()?,
        Command::Torture(what) => what.run()?,
        Command::H2spec => h2spec::h2spec(&workspace)?,
    }
    Ok(ExitCode::SUCCESS)
}
