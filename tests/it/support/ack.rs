//! When the bridges of these tests answer.

use std::{
    env, fmt,
    io::{self, Write as _},
};

/// When a request is answered 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    /// When the event is safe in the journal.
    Journal,
    /// When every sink has it.
    Sinks,
}

/// What tests use that are not about it.
const USUALLY: Ack = Ack::Sinks;

impl Ack {
    /// What tests use that are not about it: what `HOOKBUS_TEST_ACK` says, where it is set.
    pub(crate) fn usual() -> Self {
        match env::var("HOOKBUS_TEST_ACK").as_deref() {
            Err(_) => USUALLY,
            Ok("journal") => Self::Journal,
            Ok("sinks") => Self::Sinks,
            Ok(other) => panic!("HOOKBUS_TEST_ACK={other}: there are journal, sinks"),
        }
    }

    /// Whether what only a journal can do can be tested; where it cannot, a line on stderr says so, and the test is to
    /// return.
    pub(crate) fn is_journal(test: &str) -> bool {
        let journal = Self::usual() == Self::Journal;
        if !journal {
            writeln!(io::stderr(), "skipped: {test}: needs a journal").unwrap();
        }
        journal
    }
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Journal => "journal",
            Self::Sinks => "sinks",
        })
    }
}
