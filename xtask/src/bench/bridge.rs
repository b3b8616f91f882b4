//! The bridge in front of each bus, beside a floor of the same run.

use clap::Args;
use hookbus_brokers::{Kind, install};

use crate::{
    run::{Result, cargo, run},
    workspace::Workspace,
};

#[derive(Debug, Args)]
pub(crate) struct Bridge {
    /// How long each run lasts: one as fast as it goes, and one at the offered rate.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
    /// Requests a second at which latencies are measured.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// One bus only: `kafka`, `rabbitmq` or `redis`.
    #[arg(long)]
    bus: Option<Kind>,
    /// One way to answer only: `journal` or `sinks`.
    #[arg(long)]
    ack: Option<String>,
    /// Sample where the bridge spends its time (needs `perf`), and leave a report for each row below `target/profile`.
    #[arg(long)]
    profile: bool,
    /// Build without optimisation: shows that it runs, and no figure that means anything.
    #[arg(long)]
    debug: bool,
}

impl Bridge {
    /// Builds the bridge, and runs the benchmark, which starts it: a table, and a line of JSON for each row of it.
    pub(super) fn run(&self, workspace: &Workspace) -> Result {
        let kinds = self.bus.map_or(Kind::ALL.to_vec(), |bus| vec![bus]);
        install(&kinds).map_err(|error| error.to_string())?;
        let selection =
            ["--workspace", "--all-features", "--profile", if self.debug { "dev" } else { "release" }];
        run(cargo(["build", "--bin", "hookbus"]).args(selection))?;
        let mut command = cargo(["bench", "--bench", "bridge"]);
        command.args(selection).args(["--", "--seconds", &self.seconds.to_string()]);
        command.args(["--connections", &self.connections.to_string(), "--rate", &self.rate.to_string()]);
        command.args(self.bus.iter().flat_map(|bus| ["--bus", bus.name()]));
        command.args(self.ack.iter().flat_map(|ack| ["--ack", ack]));
        if self.profile {
            command.arg("--profile").arg(workspace.target.join("profile"));
        }
        run(&mut command)
    }
}
