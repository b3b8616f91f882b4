//! What each feature costs: the time of a cold build and the size of the program.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use clap::Args;

use crate::{
    run::{Result, announce, cargo, run},
    workspace::Workspace,
};

/// What is built: a name, and the features it stands for.
const SELECTIONS: [(&str, &str); 5] =
    [("none", ""), ("kafka", "kafka"), ("rabbitmq", "rabbitmq"), ("redis", "redis"), ("full", "full")];

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// One selection only: `none`, `kafka`, `rabbitmq`, `redis` or `full`.
    selection: Option<String>,
}

impl Build {
    /// Builds each selection into an empty folder.
    pub(super) fn run(&self, workspace: &Workspace) -> Result {
        println!("| features | cold build, CPU | program, stripped |\n|---|---|---|");
        for (name, features) in SELECTIONS {
            if self.selection.as_deref().is_some_and(|only| only != name) {
                continue;
            }
            let folder = workspace.target.join("bench-build");
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .map_err(|error| format!("cannot empty {}: {error}", folder.display()))?;
            }
            let arguments = ["build", "--quiet", "--release", "-p", "hookbus", "--features", features];
            let took = processor_seconds(cargo(arguments).env("CARGO_TARGET_DIR", &folder))?;
            let size = stripped(&folder.join("release/hookbus"))?;
            println!(
                "| {name} | {} min {:02} s | {:.1} MiB |",
                took / 60,
                took % 60,
                size as f64 / f64::from(1 << 20)
            );
            let _ = fs::remove_dir_all(&folder);
        }
        Ok(())
    }
}

/// Runs a command to its end and returns the time that it and its children had a processor: on a machine that is busy
/// with other things, that is what stays the same.
fn processor_seconds(command: &mut Command) -> Result<u64> {
    let line = announce(command);
    let mut timed = Command::new("bash");
    timed
        .args(["-c", "TIMEFORMAT='%U %S'; time \"$@\"", "bash"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    let output =
        timed.stdout(Stdio::null()).output().map_err(|error| format!("cannot run `{line}`: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("`{line}` failed: {}\n{said}", output.status));
    }
    let seconds: Option<f64> =
        said.lines().last().and_then(|times| times.split(' ').map(|s| s.parse::<f64>().ok()).sum());
    seconds.map(|seconds| seconds as u64).ok_or_else(|| format!("`{line}` was not timed:\n{said}"))
}

/// The size of a program without what only debuggers read.
fn stripped(program: &Path) -> Result<u64> {
    let to = program.with_extension("stripped");
    run(Command::new("strip").arg("-o").arg(&to).arg(program))?;
    fs::metadata(&to).map(|data| data.len()).map_err(|error| format!("cannot read {}: {error}", to.display()))
}
