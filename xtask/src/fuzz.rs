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
    /// Afterwards keep what reaches everything that was reached, in `fuzz/seeds`, for the runs to come.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Headers and bodies nobody signed.
    Request,
    /// Tests of the URL, unsigned and signed.
    Handshake,
    /// Bodies of signed requests.
    Body,
    /// What proxies and clients say of who the client is.
    Client,
    /// Texts as configurations.
    Config,
    /// Bytes on a connection: heads, framing, HTTP/2.
    Connection,
}

impl Fuzz {
    pub(crate) fn run(self) -> Result {
        if !exists("cargo-fuzz", "--version") {
            run(&mut cargo(["install", "--locked", CARGO_FUZZ]))?;
        }
        let name = match self.target {
            Target::Request => "request",
            Target::Handshake => "handshake",
            Target::Body => "body",
            Target::Client => "client",
            Target::Config => "config",
            Target::Connection => "connection",
        };
        // What is found goes to the corpus, which git ignores; the seeds are where it begins: some by hand, and what
        // earlier runs found.
        let folders = ["corpus", "seeds"].map(|folder| format!("fuzz/{folder}/{name}"));
        let [corpus, seeds] = &folders;
        let found = format!("{seeds}.tar.gz");
        fresh(corpus, false)?;
        if Path::new(&found).exists() {
            run(std::process::Command::new("tar").args(["-xzf", &found, "-C", corpus]))?;
        }
        let seeds = Some(seeds).filter(|seeds| Path::new(seeds.as_str()).exists());
        // The sanitizers need a nightly compiler; `+nightly` is rustup's, so the bare name is called.
        let mut command = std::process::Command::new("cargo");
        command
            .args(["+nightly", "fuzz", "run", name, corpus])
            .args(seeds)
            .arg("--")
            .env_remove("CARGO")
            .env_remove("RUSTUP_TOOLCHAIN");
        run(command.arg(format!("-max_total_time={}", self.seconds)).arg("-timeout=10"))?;
        if self.keep { keep(name, corpus, &found) } else { Ok(()) }
    }
}

/// Packs as few inputs of a corpus as reach everything that all of them reach.
fn keep(name: &str, corpus: &str, found: &str) -> Result {
    let few = format!("fuzz/target/kept-{name}");
    fresh(&few, true)?;
    let mut merge = std::process::Command::new("cargo");
    merge.args(["+nightly", "fuzz", "run", name, "--", "-set_cover_merge=1", &few, corpus]);
    run(merge.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN"))?;
    let mut pack = std::process::Command::new("tar");
    // The same files give the same archive.
    pack.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]);
    run(pack.args(["-C", &few, "-czf", found, "."]))
}

/// Makes a folder where it is missing; an empty one, where it is to be.
fn fresh(folder: &str, empty: bool) -> Result {
    if empty && Path::new(folder).exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("cannot empty {folder}: {error}"))?;
    }
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {folder}: {error}"))
}
