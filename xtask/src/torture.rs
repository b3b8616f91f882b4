//! Runs tests longer than the suite does, in a release build, and lets them show their figures.

use clap::Subcommand;

use crate::run::{Result, cargo, run};

/// The bridge with all its sinks and its tests, built as one selection, so that nothing is compiled twice.
const SELECTION: [&str; 3] = ["--release", "--workspace", "--all-features"];

/// What is tortured.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Torture {
    /// Send requests over 64 connections, a tenth of them forged, and find each accepted body on disk, byte
    /// for byte.
    Load {
        /// How many requests; a multiple of ten.
        #[arg(default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(10..))]
        requests: u64,
    },
    /// Stop the bridge under load again and again: no request unanswered, no answered event lost.
    Sigterm {
        /// How many times.
        #[arg(default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
        rounds: u64,
    },
    /// Kill, stop, freeze and cut off real brokers under load again and again: no answered event lost.
    Faults {
        /// How many times each.
        #[arg(default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        outages: u64,
        /// How many clients.
        #[arg(default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..=1000))]
        clients: u64,
    },
    /// Send requests to a bridge with one route to all three buses, a tenth of them forged, and find each accepted
    /// event on each bus once, byte for byte and authentic, with the buses' own clients.
    Buses {
        /// How many requests; a multiple of ten.
        #[arg(default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(10..))]
        requests: u64,
    },
    /// Cut the power of a journal on a simulated disk again and again, also while it is opened: nothing accepted is
    /// lost, and nothing that was noted as delivered comes again.
    PowerCuts {
        /// How many times.
        #[arg(default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
        cuts: u64,
    },
}

/// What to run, and what makes it longer.
struct Longer {
    /// The target the test is in.
    target: &'static str,
    /// A test, or a module of tests.
    name: &'static str,
    variables: Vec<(&'static str, u64)>,
}

impl Torture {
    pub(crate) fn run(self) -> Result {
        let Longer { target, name, variables } = self.longer();
        run(cargo(["build", "--bin", "hookbus", "--test", target]).args(SELECTION))?;
        let mut command = cargo(["test", "--test", target]);
        command.args(SELECTION).args(["--", name, "--nocapture"]);
        run(command.envs(variables.into_iter().map(|(variable, value)| (variable, value.to_string()))))
    }

    fn longer(self) -> Longer {
        match self {
            Self::Load { requests } => Longer {
                target: "it",
                name: "load::every_accepted_body_is_on_disk_byte_for_byte_and_no_forged_one",
                variables: vec![("HOOKBUS_TEST_LOAD", requests)],
            },
            Self::Sigterm { rounds } => Longer {
                target: "it",
                name: "shutdown::under_load_every_request_is_answered_and_every_answered_event_is_on_disk",
                variables: vec![("HOOKBUS_TEST_ROUNDS", rounds)],
            },
            Self::Faults { outages, clients } => Longer {
                target: "it",
                name: "faults::outage::",
                variables: vec![("HOOKBUS_TEST_OUTAGES", outages), ("HOOKBUS_TEST_CLIENTS", clients)],
            },
            Self::Buses { requests } => Longer {
                target: "it",
                name: "buses::every_bus_has_each_accepted_event_once_and_no_forged_one",
                variables: vec![("HOOKBUS_TEST_BUSES", requests)],
            },
            Self::PowerCuts { cuts } => Longer {
                target: "power_cut",
                name: "whenever_the_power_goes_nothing_accepted_is_lost_and_nothing_resolved_comes_again",
                variables: vec![("HOOKBUS_POWER_CUTS", cuts)],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter that matches nothing would pass and prove nothing.
    #[test]
    fn the_tests_it_names_exist() {
        const CROWD: &str = include_str!("../../tests/it/faults/crowd.rs");
        let sources = [
            ("load", include_str!("../../tests/it/load.rs")),
            ("shutdown", include_str!("../../tests/it/shutdown.rs")),
            ("faults::outage", include_str!("../../tests/it/faults/outage.rs")),
            ("buses", include_str!("../../tests/it/buses/mod.rs")),
            ("", include_str!("../../crates/hookbus-journal/tests/power_cut.rs")),
        ];
        let tortures = [
            Torture::Load { requests: 10 },
            Torture::Sigterm { rounds: 1 },
            Torture::Faults { outages: 1, clients: 2 },
            Torture::Buses { requests: 10 },
            Torture::PowerCuts { cuts: 1 },
        ];
        for torture in tortures {
            let Longer { name, variables, .. } = torture.longer();
            let (module, test) = name.rsplit_once("::").unwrap_or(("", name));
            let (_, text) = sources.iter().find(|(known, _)| *known == module).unwrap();
            assert!(text.contains(&format!("fn {test}")), "{name}");
            for (variable, _) in variables {
                let variable = format!("\"{variable}\"");
                assert!(text.contains(&variable) || CROWD.contains(&variable), "{variable}");
            }
        }
    }
}
