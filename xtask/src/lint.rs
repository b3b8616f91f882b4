//! The checks that run no test: formatting, clippy, features, documentation, dependencies, tidy.

use crate::{
    new_sink,
    run::{Result, cargo, exists, run},
    tidy,
    workspace::{Package, Workspace},
};

/// The version `deny.toml` is written for.
const CARGO_DENY: &str = "cargo-deny@0.20.2";

type Check = fn(&Workspace) -> Result;

/// What `lint` runs: the quick ones first.
const CHECKS: [(&str, Check); 7] = [
    ("fmt", fmt),
    ("tidy", tidy::tidy),
    ("deny", deny),
    ("clippy", clippy),
    ("scaffold", new_sink::check),
    ("features", features),
    ("doc", doc),
];

/// Runs all checks, so that one run shows everything there is to mend.
pub(crate) fn lint(workspace: &Workspace) -> Result {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if let Err(error) = check(workspace) {
            eprintln!("{name}: {error}");
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("these checks failed: {}", failed.join(", "))) }
}

pub(crate) fn fmt(_: &Workspace) -> Result {
    run(&mut cargo(["fmt", "--all", "--check"]))
}

pub(crate) fn clippy(_: &Workspace) -> Result {
    run(&mut cargo(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))
}

/// Checks what a build of the whole workspace hides, because there all features are on for all crates; and asks the
/// program, built with each bus alone, what it has.
pub(crate) fn features(workspace: &Workspace) -> Result {
    let selections = workspace.packages.iter().flat_map(selections);
    let failed = selections.filter_map(|selection| {
        // Clippy rather than check: it makes a warning of a lone feature, such as an unused import, an error.
        let mut command = cargo(["clippy", "--quiet", "--no-default-features", "-p"]);
        run(command.args(selection).args(["--", "-D", "warnings"])).err()
    });
    let asked = ["", "kafka", "rabbitmq", "redis"].into_iter().filter_map(|features| {
        run(&mut cargo(["test", "--quiet", "-p", "hookbus", "--test", "sinks", "--features", features])).err()
    });
    let failed = failed.chain(asked).collect::<Vec<_>>();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// The crate without features, then with each of them alone; nothing for a crate that has none.
fn selections(package: &Package) -> Vec<Vec<&str>> {
    if package.features.is_empty() {
        return Vec::new();
    }
    let alone = package.features.iter().map(|feature| vec![package.name.as_str(), "--features", feature]);
    std::iter::once(vec![package.name.as_str()]).chain(alone).collect()
}

pub(crate) fn doc(_: &Workspace) -> Result {
    let mut command = cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

pub(crate) fn deny(_: &Workspace) -> Result {
    run_deny(&["bans", "licenses", "sources"])
}

pub(crate) fn advisories(_: &Workspace) -> Result {
    run_deny(&["advisories"])
}

fn run_deny(checks: &[&str]) -> Result {
    if !exists("cargo-deny", "--version") {
        // It has little to do, and is compiled in half the time like this.
        run(&mut cargo(["install", "--locked", "--debug", CARGO_DENY]))?;
    }
    run(cargo(["deny", "check"]).args(checks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_checked_alone_and_none_too() {
        let package = |features: &[&str]| Package {
            name: "hookbus".into(),
            features: features.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(
            selections(&package(&["kafka", "redis"])),
            [vec!["hookbus"], vec!["hookbus", "--features", "kafka"], vec!["hookbus", "--features", "redis"]]
        );
        assert!(selections(&package(&[])).is_empty());
    }
}
