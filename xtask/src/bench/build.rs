//! What each feature costs: the time of a cold build and the size of the program.

use std::{fs, path::Path, process::Command, time::Instant};

use clap::Args;

use crate::{
    run::{Result, cargo, run},
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
        println!("| features | cold build | program, stripped |\n|---|---|---|");
        for (name, features) in SELECTIONS {
            if self.selection.as_deref().is_some_and(|only| only != name) {
                continue;
            }
            let folder = workspace.target.join("bench-build");
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .map_err(|error| format!("cannot empty {}: {error}", folder.display()))?;
            }
            let begun = Instant::now();
            let arguments = ["build", "--quiet", "--release", "-p", "hookbus", "--features", features];
            run(cargo(arguments).env("CARGO_TARGET_DIR", &folder))?;
            let took = begun.elapsed().as_secs();
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

/// The size of a program without what only debuggers read.
fn stripped(program: &Path) -> Result<u64> {
    let to = program.with_extension("stripped");
    run(Command::new("strip").arg("-o").arg(&to).arg(program))?;
    fs::metadata(&to).map(|data| data.len()).map_err(|error| format!("cannot read {}: {error}", to.display()))
}
