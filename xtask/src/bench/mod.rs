//! Measures the bridge end to end, against a floor of the same run.
//!
//! Absolute figures of a shared machine say little: its speed changes within minutes. So a floor, a server that does
//! the least any receiver must, is driven in turn with the bridge, and the ratio is what counts.

mod bridge;
mod build;
mod figures;
mod server;
mod sinks;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, Subcommand};

use self::{
    figures::{Row, Side, show},
    server::{Server, free_address},
};
use crate::{
    run::{Result, cargo, output, run},
    workspace::Workspace,
};

/// Any base64 text is a FastPix secret; nothing real is signed with this one.
const SECRET: &str = "aG9va2J1cyBiZW5jaG1hcmsgc2VjcmV0\n";

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// From the socket to a sink that keeps events in memory: requests per second and CPU per request.
    Ingress(Ingress),
    /// From the socket to each bus, answered from the journal and from the sinks: accepted and drained a second,
    /// CPU per event, latencies, memory.
    Bridge(bridge::Bridge),
    /// Batches straight into the sink of each bus, beside the best loop of its driver in the same run.
    Sinks(sinks::Sinks),
    /// The time of a cold release build and the size of the program, for each bus alone and all together.
    Build(build::Build),
}

#[derive(Debug, Args)]
pub(crate) struct Ingress {
    /// How long a round lasts; there are `--rounds` for each server.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Rounds for each server, in turn; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Distinct events prepared for each round, about 1.5 kB of memory each.
    #[arg(long, default_value_t = 200_000)]
    events: u32,
    /// Offer so many requests a second instead of as many as are answered.
    #[arg(long)]
    rate: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Put the floor on both sides: shows how far two equal servers differ on this machine.
    #[arg(long, hide = true)]
    floor_twice: bool,
}

/// Where things are.
#[derive(Debug)]
struct Bins {
    release: PathBuf,
    folder: PathBuf,
}

impl Bench {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result {
        match self {
            Self::Ingress(ingress) => ingress.run(workspace),
            Self::Bridge(bridge) => bridge.run(workspace),
            Self::Sinks(sinks) => sinks.run(),
            Self::Build(build) => build.run(workspace),
        }
    }
}

impl Ingress {
    fn run(&self, workspace: &Workspace) -> Result {
        if self.seconds == 0 || self.rounds == 0 {
            return Err("`--seconds` and `--rounds` must be at least 1".into());
        }
        let mut build = cargo(["build", "--release", "--bins", "-p", "hookbus-tests"]);
        if !self.floor_twice {
            build.args(["-p", "hookbus"]);
        }
        run(&mut build)?;
        let bins = Bins {
            release: workspace.target.join("release"),
            folder: workspace.target.join("bench-ingress"),
        };
        let ticks = output(Command::new("getconf").arg("CLK_TCK"))?;
        let ticks = ticks.trim().parse::<f64>().map_err(|error| format!("getconf CLK_TCK: {error}"))?;
        let other = if self.floor_twice { Side::Again } else { Side::Hookbus };
        let (mut floor, mut measured) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            for (side, rows) in [(Side::Floor, &mut floor), (other, &mut measured)] {
                let row = self.round(side, &bins, ticks)?;
                eprintln!("round {round} of {}, {}: {row}", self.rounds, side.name());
                rows.push(row);
            }
        }
        show(&[(Side::Floor, Row::median(&floor)?), (other, Row::median(&measured)?)], self.json)
    }

    /// A fresh server in a fresh folder each time: no round may profit or suffer from the one before.
    fn round(&self, side: Side, bins: &Bins, ticks: f64) -> Result<Row> {
        let Bins { release, folder } = bins;
        if folder.exists() {
            fs::remove_dir_all(folder)
                .map_err(|error| format!("cannot empty {}: {error}", folder.display()))?;
        }
        fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let secret = folder.join("fastpix.secret");
        write(&secret, SECRET)?;
        let address = free_address()?;
        let mut command = match side {
            Side::Floor | Side::Again => {
                let mut command = Command::new(release.join("floor"));
                command.args(["--listen", &address.to_string(), "--secret-file"]).arg(&secret);
                command
            }
            Side::Hookbus => {
                let file = folder.join("hookbus.toml");
                write(&file, &config(address))?;
                let mut command = Command::new(release.join("hookbus"));
                command.args(["serve", "--config"]).arg(&file);
                command
            }
        };
        command.current_dir(folder);
        let server = Server::start(&mut command, address, &folder.join("server.log"))?;
        let before = server.cpu_ticks()?;
        let report = output(&mut self.load(release, address, &secret))?;
        let cpu = (server.cpu_ticks()? - before) as f64 / ticks;
        let report =
            serde_json::from_str(&report).map_err(|error| format!("cannot read the load report: {error}"))?;
        Row::new(&report, cpu)
    }

    fn load(&self, release: &Path, address: SocketAddr, secret: &Path) -> Command {
        let mut command = Command::new(release.join("load"));
        command.arg(address.to_string()).arg("--secret-file").arg(secret);
        for (name, value) in
            [("--seconds", self.seconds), ("--connections", self.connections), ("--events", self.events)]
        {
            command.args([name, &value.to_string()]);
        }
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        command
    }
}

/// One source, one sink that keeps events in memory, one route; its paths are relative to its folder.
fn config(address: SocketAddr) -> String {
    format!(
        r#"[server]
listen = "{address}"
limits = {{ connections = 4096, connections-per-address = 4096 }}
[sources.fastpix]
provider = "fastpix"
secrets = [{{ file = "fastpix.secret" }}]
ack = "sinks"
[sinks.kept]
type = "memory"
[[routes]]
name = "all"
to = [{{ sink = "kept" }}]
"#
    )
}

/// Writes a file for the owner only, as a secret's must be.
fn write(path: &Path, text: &str) -> Result {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}
