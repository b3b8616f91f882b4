//! Runs other programs, with errors that say which.

use std::{
    env,
    ffi::OsStr,
    process::{Command, Stdio},
};

/// What went wrong, as a sentence for whoever ran the command.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The cargo that runs us.
///
/// Without the variables it set for us: build scripts that watch one of them would run again for each other caller.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs a command to its end with its output as ours; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result {
    let line = announce(command);
    let status = command.status().map_err(|error| format!("cannot run `{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed: {status}")) }
}

/// Runs a command to its end and returns what it wrote to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot run `{line}`: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{line}` failed: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("`{line}` wrote no UTF-8: {error}"))
}

/// Whether a program is there and runs.
pub(crate) fn exists(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Shows on stderr what is about to run.
pub(crate) fn announce(command: &Command) -> String {
    let line = line(command);
    eprintln!("$ {line}");
    line
}

fn line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
