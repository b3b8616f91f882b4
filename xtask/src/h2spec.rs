//! Runs h2spec, an independent suite for HTTP/2, against the bridge.

use std::{path::PathBuf, process::Command};

use crate::{
    run::{Result, cargo, run},
    workspace::Workspace,
};

const MODULE: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";

/// Installs h2spec below `target/` with Go, where it is not there yet, and lets a test run it in clear and over TLS.
pub(crate) fn h2spec(workspace: &Workspace) -> Result {
    let folder = workspace.target.join("h2spec");
    let h2spec = folder.join("h2spec");
    if !h2spec.is_file() {
        let go = PathBuf::from("/usr/local/go/bin/go");
        let mut install = Command::new(if go.is_file() { go } else { "go".into() });
        run(install.args(["install", MODULE]).env("GOBIN", &folder))?;
    }
    const SELECTION: [&str; 2] = ["--workspace", "--all-features"];
    run(cargo(["build", "--bin", "hookbus", "--test", "it"]).args(SELECTION))?;
    let mut command = cargo(["test", "--test", "it"]);
    command.args(SELECTION).args(["--", "h2spec::", "--nocapture"]);
    run(command.env("HOOKBUS_TEST_H2SPEC", h2spec).env("HOOKBUS_TEST_SKIPS", "never"))
}
