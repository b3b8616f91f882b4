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
        let buses = ["kafka", "rabbitmq", "redis"].into_iter();
        for bus in buses.filter(|bus| self.bus.as_deref().is_none_or(|only| only == *bus)) {
            let package = format!("hookbus-{bus}");
            // All features, as for the tests: another selection would compile the driver again.
            let text = output(&mut cargo([
                "bench",
                "--quiet",
                "--all-features",
                "--bench",
                "sink",
                "-p",
                &package,
            ]))?;
            match text.lines().find(|line| line.starts_with('|')) {
                Some(line) => println!("{line}"),
                None => return Err(format!("the benchmark of {package} has no result:\n{text}")),
            }
        }
        Ok(())
    }
}
