//! Runs end-to-end tests longer than the suite does, in a release build, and lets them show their figures.

use clap::Subcommand;

use crate::run::{Result, cargo, run};

/// The bridge and its tests, built as one selection, so that nothing is compiled twice.
const SELECTION: [&str; 5] = ["--release", "-p", "hookbus", "-p", "hookbus-tests"];

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
}

impl Torture {
    pub(crate) fn run(self) -> Result {
        let (test, variable, value) = self.test();
        run(cargo(["build", "--bin", "hookbus", "--test", "it"]).args(SELECTION))?;
        let mut command = cargo(["test", "--test", "it"]);
        command.args(SELECTION).args(["--", "--exact", test, "--nocapture"]);
        run(command.env(variable, value.to_string()))
    }

    /// The test, the variable that makes it longer, and how long.
    fn test(self) -> (&'static str, &'static str, u64) {
        match self {
            Self::Load { requests } => (
                "load::every_accepted_body_is_on_disk_byte_for_byte_and_no_forged_one",
                "HOOKBUS_TEST_LOAD",
                requests,
            ),
            Self::Sigterm { rounds } => (
                "shutdown::under_load_every_request_is_answered_and_every_answered_event_is_on_disk",
                "HOOKBUS_TEST_ROUNDS",
                rounds,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter that matches nothing would pass and prove nothing.
    #[test]
    fn the_tests_it_names_exist() {
        let sources = [
            ("load", include_str!("../../tests/it/load.rs")),
            ("shutdown", include_str!("../../tests/it/shutdown.rs")),
        ];
        for torture in [Torture::Load { requests: 10 }, Torture::Sigterm { rounds: 1 }] {
            let (test, variable, _) = torture.test();
            let (module, name) = test.split_once("::").unwrap();
            let (_, text) = sources.iter().find(|(known, _)| *known == module).unwrap();
            assert!(text.contains(&format!("async fn {name}()")), "{test}");
            assert!(text.contains(&format!("\"{variable}\"")), "{variable}");
        }
    }
}
