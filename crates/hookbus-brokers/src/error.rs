//! What can go wrong with a broker.

use std::{io, process::ExitStatus};

use crate::Kind;

/// What went wrong, as a sentence that says what to do where there is something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Programs are missing, and they cannot be installed here.
    #[error("{what} is missing; as root on Debian: apt-get install {packages}")]
    Missing {
        /// The programs.
        what: String,
        /// The packages that bring them.
        packages: String,
    },
    /// The operating system refused something.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// Its answer.
        source: io::Error,
    },
    /// A program that should end well did not.
    #[error("`{command}` failed: {status}\n{output}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote.
        output: String,
    },
    /// A broker did not come up.
    #[error("{kind} {why}\nthe end of its log:\n{log}")]
    NotReady {
        /// Which.
        kind: Kind,
        /// Whether it ended, or what its last answer was.
        why: String,
        /// The end of its log.
        log: String,
    },
    /// A broker answered a command with an error.
    #[error("{0}")]
    Refused(String),
    /// A value from outside makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was tried when the operating system refused it.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::System { doing: what(), source: source.into() })
    }
}
