//! Runs a fuzz target of `fuzz/` for a while.

use std::{fs, path::Path};

use clap::{Args, ValueEnum};

use crate::run::{Result, cargo, exists, run};

/// The version of cargo-fuzz that is installed where none is.
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Fuzz {
    /// What to fuzz.
    target: Target,
    /// For how many seconds.
    #[arg(default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Headers and bodies nobody signed.
    Request,
    /// Bodies of signed requests.
    Body,
    /// What proxies and clients say of who the client is.
    Client,
    /// Texts as configurations.
    Config,
}

impl Fuzz {
    pub(crate) fn run(self) -> Result {
        if !exists("cargo-fuzz", "--version") {
            run(&mut cargo(["install", "--locked", CARGO_FUZZ]))?;
        }
        let name = match self.target {
            Target::Request => "request",
            Target::Body => "body",
            Target::Client => "client",
            Target::Config => "config",
        };
        // What is found goes into the first folder; the second one is part of the source.
        let (found, seeds) = (format!("fuzz/corpus/{name}"), format!("fuzz/seeds/{name}"));
        fs::create_dir_all(&found).map_err(|error| format!("cannot make {found}: {error}"))?;
        // The sanitizers need a nightly compiler; `+nightly` is rustup's, so the bare name is called.
        let mut command = std::process::Command::new("cargo");
        command
            .args(["+nightly", "fuzz", "run", name, &found])
            .args(Path::new(&seeds).is_dir().then_some(seeds))
            .arg("--")
            .env_remove("CARGO")
            .env_remove("RUSTUP_TOOLCHAIN");
        run(command.arg(format!("-max_total_time={}", self.seconds)).arg("-timeout=10"))
    }
}
