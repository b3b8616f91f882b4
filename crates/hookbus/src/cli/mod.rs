//! The command line. Results go to stdout, everything about them to stderr.

mod check;
mod client;
mod dead_letters;
mod demo;
mod init;
mod journal;
mod rejected;
mod reloader;
mod samples;
mod secrets;
mod send;
mod serve;
mod service;
mod sinks;
mod sockets;
mod verify;

use std::{
    ffi::OsString,
    fmt::Display,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use hookbus_core::SinkRegistry;
use tracing_subscriber::EnvFilter;

use crate::config;

/// It went wrong, or the answer is no.
const FAILURE: u8 = 1;
/// The bridge ended, but connections had to be cut.
const CUT: u8 = 3;
/// Another process has the data folder.
const IN_USE: u8 = 4;
/// An fsync of the journal failed.
const JOURNAL_FAILED: u8 = 5;
/// A second signal ended the bridge at once.
const INTERRUPTED: u8 = 130;

/// What is never logged.
const SILENT: [&str; 1] = ["lapin=off"];

#[derive(Parser)]
#[command(
    name = "hookbus",
    version,
    about = "Receives signed webhooks, proves who sent them, and puts every one on a message bus",
    after_help = "Start here:\n  hookbus demo            see genuine events arrive and a forged one refused\n  hookbus init            write hookbus.toml and a development secret\n  hookbus serve           run the bridge\n  hookbus send fastpix    send it a signed sample event\n\nExit codes:\n  0    done, or the answer is yes\n  1    it went wrong, or the answer is no: a wrong configuration, a refused event, a bridge that could not start\n  2    the command line was not understood\n  3    the bridge stopped, but had to cut connections that took longer than the grace period\n  4    another process has the data folder\n  5    the bridge stopped because an fsync of its journal failed\n  130  a second signal stopped the bridge at once"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// The configuration file
    #[arg(long, global = true, env = "HOOKBUS_CONFIG", default_value = "hookbus.toml", value_name = "FILE")]
    config: PathBuf,
    /// Print results as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    /// What to log to stderr, such as `debug` or `hookbus=debug`
    #[arg(long, global = true, env = "HOOKBUS_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// How to log
    #[arg(long, global = true, env = "HOOKBUS_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Write a configuration and a development secret to start from
    Init(init::Init),
    /// Run the bridge
    Serve(serve::Serve),
    /// Say everything that is wrong with the configuration
    Check(check::Check),
    /// Sign and send an event like a provider does, and show the answer
    Send(send::Send),
    /// Say whether a captured request is authentic, and if not, why
    Verify(verify::Verify),
    /// Run a bridge for a moment: two genuine events and a forged one
    Demo,
    DeadLetters(dead_letters::DeadLetters),
    Rejected(rejected::Rejected),
    Journal(journal::Journal),
    Sinks(sinks::Sinks),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Does what the arguments say.
pub(crate) fn run(registry: &SinkRegistry, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(help) => {
            // To stdout where it was asked for, else to stderr; both may be closed.
            let _ = help.print();
            return ExitCode::from(u8::try_from(help.exit_code()).unwrap_or(2));
        }
    };
    let global = &cli.global;
    if let Err(error) = log_to_stderr(global) {
        return fail(&error);
    }
    let done = match cli.command {
        Command::Init(init) => init.run(global),
        Command::Serve(serve) => serve.run(global, registry),
        Command::Check(check) => check.run(global, registry),
        Command::Send(send) => send.run(global, registry),
        Command::Verify(verify) => verify.run(global, registry),
        Command::Demo => demo::run(global),
        Command::DeadLetters(letters) => letters.run(global, registry),
        Command::Rejected(rejected) => rejected.run(global, registry),
        Command::Journal(journal) => journal.run(global, registry),
        Command::Sinks(sinks) => sinks.run(global, registry),
        Command::Schema => print(&format!("{:#}", config::schema(registry))).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hookbus", &mut script);
            print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|failure| fail(&failure))
}

/// Says on stderr what went wrong.
pub(crate) fn fail(error: &impl Display) -> ExitCode {
    let text = error.to_string();
    let prefix = if text.starts_with("error") { "" } else { "error: " };
    let _ = writeln!(std::io::stderr(), "{prefix}{text}");
    ExitCode::from(FAILURE)
}

/// What a command comes to: an exit code, or something to say on stderr.
type Outcome = Result<ExitCode, Failure>;

/// What went wrong, in words for a person.
struct Failure(String);

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            source = error.source();
        }
        Self(text)
    }
}

/// A failure in these words.
fn failure<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure(text.into()))
}

/// Writes a result to stdout. A reader that has gone away is no mistake.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { stdout.write_all(b"\n") });
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Says something about a result on stderr.
fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn log_to_stderr(global: &Global) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&global.log);
    let filter = filter.or_else(|error| failure(format!("--log `{}`: {error}", global.log)))?;
    // Whatever was asked for: some drivers log whole messages, and payloads are not for logs.
    let filter =
        SILENT.iter().filter_map(|target| target.parse().ok()).fold(filter, EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second bridge in one process finds the first one's log in place and uses it.
    let _ = match global.log_format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    Ok(())
}

/// A runtime for what waits.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
