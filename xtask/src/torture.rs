//! Runs tests longer than the suite does, in a release build, and lets them show their figures.

use clap::{Args, Subcommand, ValueEnum};
use hookbus_brokers::{Kind, install};

use crate::run::{Result, cargo, run};

/// The bridge with all its sinks and its tests, as one selection, so that nothing is compiled twice.
const SELECTION: [&str; 2] = ["--workspace", "--all-features"];

/// Run an end-to-end test in a release build for longer than `test` does, and show its figures.
#[derive(Clone, Debug, Args)]
pub(crate) struct Torture {
    #[command(subcommand)]
    what: What,
    /// Build without optimisation: quicker to build, and good for nothing else.
    #[arg(long, global = true)]
    debug: bool,
}

/// What is tortured.
#[derive(Clone, Copy, Debug, Subcommand)]
enum What {
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
    /// Give the bridge another configuration under load again and again: no request fails, accepted minus arrived is 0,
    /// each subject in order.
    Reload {
        /// How many times.
        #[arg(default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
        reloads: u64,
    },
    /// Let one process of the bridge follow the other on a passed socket under load: no connection refused, no answered
    /// event lost.
    Restart {
        /// How many times.
        #[arg(default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        restarts: u64,
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
    /// Kill the bridge, or the broker, at random instants under load, again and again: accepted minus arrived is 0,
    /// each subject in order, duplicates counted.
    Crash {
        /// How many times; for brokers 20 unless told.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        times: Option<u64>,
        /// One bus only. Without it the bridge is killed in front of Redis, and the broker of each bus.
        #[arg(long)]
        bus: Option<Kind>,
        /// Who is killed.
        #[arg(long, value_enum, default_value = "bridge")]
        victim: Victim,
        /// The seed of a run that is to be repeated; every run prints its own.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Take RabbitMQ away for long while Redis and Kafka go on: 200 throughout, their lag before and meanwhile, and how
    /// long RabbitMQ takes to catch up, in order.
    Outage {
        /// How long it is away.
        #[arg(default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Events offered a second.
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        rate: u64,
    },
    /// Fill up the disk of the journal and make it read-only, under load, and put it right; and send ten times what a
    /// journal may hold beside a dead sink. Needs root, to mount a small tmpfs.
    Disk {
        /// How often the disk is full.
        #[arg(default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        rounds: u64,
        /// What the journal beside the dead sink may hold, in MiB.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(8..))]
        mib: u64,
    },
    /// Send forged requests in a flood beside genuine ones of the same source: the latency of the genuine ones without and
    /// with it, what it costs, and what its record takes on disk.
    Flood {
        /// How long, without and with.
        #[arg(default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Forged requests offered a second.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
        forged: u64,
        /// Genuine requests offered a second.
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
        genuine: u64,
    },
    /// Swap the certificate again and again beside requests over TLS: none fails.
    Certificates {
        /// How many times.
        #[arg(default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        swaps: u64,
    },
    /// Treat bridges badly, over HTTP/1.1 and HTTP/2, in clear and by TLS: each input with its answer, and the CPU and
    /// memory it costs.
    Hostile {
        /// How many connections idle at once.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=19_000))]
        idle: u64,
    },
    /// Fill a journal, and measure how soon a bridge with it is ready; then its memory over many events. Needs the
    /// journal's size and half as much again as free disk.
    Big {
        /// How much the journal holds, in GiB.
        #[arg(default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        gib: u64,
        /// Events of the second part.
        #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(8..))]
        events: u64,
    },
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Victim {
    Bridge,
    Broker,
}

/// What to run, and what makes it longer.
struct Longer {
    /// The target the test is in.
    target: &'static str,
    /// A test, or a module of tests.
    name: &'static str,
    variables: Vec<(&'static str, String)>,
}

impl Torture {
    pub(crate) fn run(&self) -> Result {
        // What is missing here is installed, or said: a test that is skipped would show nothing.
        install(self.what.needs()).map_err(|error| error.to_string())?;
        let profile = if self.debug { "dev" } else { "release" };
        let selection = |command: &mut std::process::Command| {
            command.args(SELECTION).args(["--profile", profile]);
        };
        let longer = self.what.longer();
        for Longer { target, name, variables } in longer {
            let mut build = cargo(["build", "--bin", "hookbus", "--test", target]);
            selection(&mut build);
            run(&mut build)?;
            let mut command = cargo(["test", "--test", target]);
            selection(&mut command);
            command.args(["--", name, "--nocapture"]).env("HOOKBUS_TEST_SKIPS", "never").env("CI", "true");
            run(command.envs(variables))?;
        }
        Ok(())
    }
}

impl What {
    /// The brokers that it needs.
    fn needs(self) -> &'static [Kind] {
        match self {
            Self::Load { .. }
            | Self::Sigterm { .. }
            | Self::PowerCuts { .. }
            | Self::Flood { .. }
            | Self::Reload { .. }
            | Self::Restart { .. }
            | Self::Certificates { .. }
            | Self::Hostile { .. } => &[],
            Self::Faults { .. } | Self::Buses { .. } | Self::Outage { .. } | Self::Crash { .. } => &Kind::ALL,
            Self::Disk { .. } | Self::Big { .. } => &[Kind::Redis],
        }
    }

    fn longer(self) -> Vec<Longer> {
        let one = |name, variables: &[(&'static str, u64)]| {
            let text = |(variable, value): &(&'static str, u64)| (*variable, value.to_string());
            vec![Longer { target: "it", name, variables: variables.iter().map(text).collect() }]
        };
        match self {
            Self::Load { requests } => one(
                "load::every_accepted_body_is_on_disk_byte_for_byte_and_no_forged_one",
                &[("HOOKBUS_TEST_LOAD", requests)],
            ),
            Self::Sigterm { rounds } => one(
                "shutdown::under_load_every_request_is_answered_and_every_answered_event_is_on_disk",
                &[("HOOKBUS_TEST_ROUNDS", rounds)],
            ),
            Self::Reload { reloads } => one(
                "reload::load::under_load_no_request_fails_and_every_event_arrives_in_order",
                &[("HOOKBUS_TEST_RELOADS", reloads)],
            ),
            Self::Restart { restarts } => one(
                "restart::under_load_no_connection_is_refused_and_nothing_answered_is_lost",
                &[("HOOKBUS_TEST_RESTARTS", restarts)],
            ),
            Self::Certificates { swaps } => one(
                "tls::certificates_are_swapped_under_load_without_a_failed_request",
                &[("HOOKBUS_TEST_SWAPS", swaps)],
            ),
            Self::Hostile { idle } => one("hostile::", &[("HOOKBUS_TEST_IDLE", idle)]),
            Self::Faults { outages, clients } => one(
                "faults::outage::",
                &[("HOOKBUS_TEST_OUTAGES", outages), ("HOOKBUS_TEST_CLIENTS", clients)],
            ),
            Self::Buses { requests } => one(
                "buses::every_bus_has_each_accepted_event_once_and_no_forged_one",
                &[("HOOKBUS_TEST_BUSES", requests)],
            ),
            Self::Crash { times, bus, victim, seed } => {
                let (name, times, buses) = match victim {
                    Victim::Bridge => (
                        "faults::crash::the_bridge_is_killed_again_and_again",
                        times.unwrap_or(100),
                        vec![bus.unwrap_or(Kind::Redis)],
                    ),
                    Victim::Broker => (
                        "faults::crash::the_broker_is_killed_again_and_again",
                        times.unwrap_or(20),
                        bus.map_or(Kind::ALL.to_vec(), |bus| vec![bus]),
                    ),
                };
                let each = |bus: Kind| {
                    let mut variables = vec![
                        ("HOOKBUS_TEST_CRASHES", times.to_string()),
                        ("HOOKBUS_TEST_BUS", bus.name().to_owned()),
                    ];
                    variables.extend(seed.map(|seed| ("HOOKBUS_TEST_SEED", seed.to_string())));
                    Longer { target: "it", name, variables }
                };
                buses.into_iter().map(each).collect()
            }
            Self::Outage { seconds, rate } => one(
                "faults::isolation::a_bus_that_is_gone_costs_the_others_nothing",
                &[("HOOKBUS_TEST_SECONDS", seconds), ("HOOKBUS_TEST_RATE", rate)],
            ),
            Self::PowerCuts { cuts } => vec![Longer {
                target: "power_cut",
                name: "whenever_the_power_goes_nothing_accepted_is_lost_and_nothing_resolved_comes_again",
                variables: vec![("HOOKBUS_POWER_CUTS", cuts.to_string())],
            }],
            Self::Disk { rounds, mib } => {
                one("faults::disk::", &[("HOOKBUS_TEST_ROUNDS", rounds), ("HOOKBUS_TEST_MIB", mib)])
            }
            Self::Flood { seconds, forged, genuine } => one(
                "flood::genuine_requests_are_accepted_beside_a_flood_of_forged_ones",
                &[
                    ("HOOKBUS_TEST_SECONDS", seconds),
                    ("HOOKBUS_TEST_FORGED", forged),
                    ("HOOKBUS_TEST_RATE", genuine),
                ],
            ),
            Self::Big { gib, events } => {
                one("faults::backlog::", &[("HOOKBUS_TEST_MIB", gib * 1024), ("HOOKBUS_TEST_EVENTS", events)])
            }
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
            ("reload::load", include_str!("../../tests/it/reload/load.rs")),
            ("restart", include_str!("../../tests/it/restart.rs")),
            ("faults::outage", include_str!("../../tests/it/faults/outage.rs")),
            ("faults::crash", include_str!("../../tests/it/faults/crash.rs")),
            ("faults::isolation", include_str!("../../tests/it/faults/isolation.rs")),
            ("flood", include_str!("../../tests/it/flood.rs")),
            ("faults::disk", include_str!("../../tests/it/faults/disk.rs")),
            ("faults::backlog", include_str!("../../tests/it/faults/backlog.rs")),
            ("tls", include_str!("../../tests/it/tls.rs")),
            ("hostile", include_str!("../../tests/it/hostile/crowds.rs")),
            ("buses", include_str!("../../tests/it/buses/mod.rs")),
            ("", include_str!("../../crates/hookbus-journal/tests/power_cut.rs")),
        ];
        let crash = |victim| What::Crash { times: None, bus: None, victim, seed: Some(1) };
        let tortures = [
            What::Load { requests: 10 },
            What::Sigterm { rounds: 1 },
            What::Reload { reloads: 1 },
            What::Restart { restarts: 1 },
            What::Faults { outages: 1, clients: 2 },
            What::Buses { requests: 10 },
            crash(Victim::Bridge),
            crash(Victim::Broker),
            What::Outage { seconds: 1, rate: 1 },
            What::Certificates { swaps: 1 },
            What::Hostile { idle: 1 },
            What::Disk { rounds: 1, mib: 8 },
            What::Flood { seconds: 1, forged: 1, genuine: 1 },
            What::Big { gib: 1, events: 8 },
            What::PowerCuts { cuts: 1 },
        ];
        for Longer { name, variables, .. } in tortures.into_iter().flat_map(What::longer) {
            let (module, test) = name.rsplit_once("::").unwrap_or(("", name));
            let (_, text) = sources.iter().find(|(known, _)| *known == module).unwrap();
            assert!(text.contains(&format!("fn {test}")), "{name}");
            for (variable, _) in variables {
                let variable = format!("\"{variable}\"");
                assert!(text.contains(&variable) || CROWD.contains(&variable), "{variable}");
            }
        }
    }

    #[test]
    fn brokers_of_all_buses_are_killed_and_the_bridge_in_front_of_one() {
        let runs = |bus, victim| What::Crash { times: None, bus, victim, seed: None }.longer();
        assert_eq!(runs(None, Victim::Broker).len(), 3);
        assert_eq!(runs(None, Victim::Bridge).len(), 1);
        let one = runs(Some(Kind::Kafka), Victim::Broker);
        let expected = [("HOOKBUS_TEST_CRASHES", "20".to_owned()), ("HOOKBUS_TEST_BUS", "kafka".to_owned())];
        assert_eq!(one[0].variables, expected);
    }
}
