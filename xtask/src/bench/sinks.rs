//! Each bus's sink beside the best loop of its driver.

use clap::Args;

use crate::run::{Result, cargo, output};

#[derive(Debug, Args)]
pub(crate) struct Sinks {
    /// One bus only: `kafka`, `rabbitmq` or `redis`.
    bus: Option<String>,
}

impl Sinks {
    /// Runs the benchmark of each adapter, on a broker of its own, and shows their lines as one table.
    pub(super) fn run(&self) -> Result {
        hookbus_brokers::install(&hookbus_brokers::Kind::ALL).map_err(|error| error.to_string())?;
        println!("| bus | sink, events/s | driver alone, events/s | ratio |\n|---|---|---|---|");
        // All packages and all features, as for the tests: another selection would compile the drivers again.
        let mut command = cargo(["bench", "--quiet", "--all-features", "--bench", "sink"]);
        match &self.bus {
            Some(bus) => command.args(["-p", &format!("hookbus-{bus}")]),
            None => command.arg("--workspace"),
        };
        let text = output(&mut command)?;
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        if lines.is_empty() {
            return Err(format!("the benchmarks have no result:\n{text}"));
        }
        lines.iter().for_each(|line| println!("{line}"));
        Ok(())
    }
}
