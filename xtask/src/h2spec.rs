//! Runs h2spec, an independent suite for HTTP/2, against the bridge.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    run::{Result, cargo, exists, run},
    workspace::Workspace,
};

const MODULE: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";
/// Where a test looks for it.
pub(crate) const VARIABLE: &str = "HOOKBUS_TEST_H2SPEC";

/// Installs h2spec with Go, where it is not there yet, and lets a test run it in clear and over TLS.
pub(crate) fn h2spec(workspace: &Workspace) -> Result {
    let h2spec = install(workspace, &go().unwrap_or_else(|| "go".into()))?;
    const SELECTION: [&str; 2] = ["--workspace", "--all-features"];
    run(cargo(["build", "--bin", "hookbus", "--test", "it"]).args(SELECTION))?;
    let mut command = cargo(["test", "--test", "it"]);
    command.args(SELECTION).args(["--", "h2spec::", "--nocapture"]);
    run(command.env(VARIABLE, h2spec).env("HOOKBUS_TEST_SKIPS", "never"))
}

/// The program, installed below `target/`; nothing where there is no Go to build it with, or it cannot be had.
pub(crate) fn where_go_is(workspace: &Workspace) -> Option<PathBuf> {
    let installed = go().map(|go| install(workspace, &go))?;
    installed.inspect_err(|error| eprintln!("no h2spec: {error}")).ok()
}

fn go() -> Option<PathBuf> {
    let usual = Path::new("/usr/local/go/bin/go");
    if usual.is_file() { Some(usual.into()) } else { exists("go", "version").then(|| "go".into()) }
}

fn install(workspace: &Workspace, go: &Path) -> Result<PathBuf> {
    let folder = workspace.target.join("h2spec");
    let h2spec = folder.join("h2spec");
    if !h2spec.is_file() {
        run(Command::new(go).args(["install", MODULE]).env("GOBIN", &folder))?;
    }
    Ok(h2spec)
}
