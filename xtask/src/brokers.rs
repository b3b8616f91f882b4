//! Starts and stops real brokers, for tests and for playing.

use std::thread;

use clap::Subcommand;
use hookbus_brokers::{Broker, Contact, Kind, Options, background, install, running};

use crate::run::Result;

#[derive(Debug, Subcommand)]
pub(crate) enum Brokers {
    /// Install what is missing, start brokers that stay, and show the variables that lead to them.
    Up {
        /// `redis`, `rabbitmq`, `kafka`; all of them where none is named.
        kinds: Vec<Kind>,
    },
    /// Stop what `up` started, and remove its data.
    Down {
        /// `redis`, `rabbitmq`, `kafka`; all of them where none is named.
        kinds: Vec<Kind>,
    },
    /// Show which brokers run.
    Status,
}

impl Brokers {
    pub(crate) fn run(&self) -> Result {
        match self {
            Self::Up { kinds } => up(or_all(kinds)),
            Self::Down { kinds } => in_parallel(or_all(kinds), |kind| {
                let was = if background::down(kind)? { "stopped" } else { "was not running" };
                println!("{kind} {was}");
                Ok(())
            })
            .map(drop),
            Self::Status => status(),
        }
    }
}

fn or_all(kinds: &[Kind]) -> &[Kind] {
    if kinds.is_empty() { &Kind::ALL } else { kinds }
}

fn up(kinds: &[Kind]) -> Result {
    install(kinds).map_err(|error| error.to_string())?;
    for contact in in_parallel(kinds, background::up)? {
        for (name, value) in contact.variables() {
            println!("export {name}='{value}'");
        }
    }
    Ok(())
}

fn status() -> Result {
    for kind in Kind::ALL {
        match background::status(kind).map_err(|error| error.to_string())? {
            Some(contact) => {
                println!("{kind} runs at {}, process {}", contact.url(), contact.pid().unwrap_or_default());
            }
            None => println!("{kind} does not run; start it with `cargo xtask brokers up {kind}`"),
        }
    }
    Ok(())
}

/// Does something for each kind at the same time; all are done, or have failed, when it returns.
fn in_parallel<T: Send>(kinds: &[Kind], what: fn(Kind) -> hookbus_brokers::Result<T>) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads = kinds.iter().map(|kind| scope.spawn(move || what(*kind))).collect::<Vec<_>>();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("a thread panicked".to_owned()),
        });
        // All of them, before the first error counts.
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

/// A broker for the time of the tests.
#[derive(Debug)]
pub(crate) enum Lent {
    /// Somebody else's; it stays as it is.
    Found(Box<Contact>),
    /// Started for the tests; it ends when dropped.
    Started(Box<Broker>),
}

impl Lent {
    /// Finds or starts all brokers, after installing what is missing.
    pub(crate) fn all() -> Result<Vec<Self>> {
        install(&Kind::ALL).map_err(|error| error.to_string())?;
        in_parallel(&Kind::ALL, |kind| match running(kind)? {
            Some(contact) => Ok(Self::Found(Box::new(contact))),
            None => Ok(Self::Started(Box::new(Broker::temporary(kind, &Options::secured())?))),
        })
    }

    /// What leads tests to it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        match self {
            Self::Found(contact) => contact.variables(),
            Self::Started(broker) => broker.variables(),
        }
    }
}
