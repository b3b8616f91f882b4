//! When the bridges of these tests answer.

use std::{fmt, str::FromStr};

use super::{skip, text_of};

/// When a request is answered 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    /// When the event is safe in the journal.
    Journal,
    /// When every sink has it.
    Sinks,
}

/// What tests use that are not about it.
const USUALLY: Ack = Ack::Journal;

impl Ack {
    /// What tests use that are not about it: what `HOOKBUS_TEST_ACK` says, where it is set.
    pub(crate) fn usual() -> Self {
        let chosen = text_of("HOOKBUS_TEST_ACK").map(|text| text.parse());
        chosen.map_or(USUALLY, |ack| ack.unwrap_or_else(|wrong| panic!("HOOKBUS_TEST_ACK: {wrong}")))
    }

    /// Whether what only a journal can do can be tested; where it cannot, a line on stderr says so, and the test is to
    /// return.
    pub(crate) fn is_journal(test: &str) -> bool {
        let journal = Self::usual() == Self::Journal;
        if !journal {
            skip(test, "a journal");
        }
        journal
    }
}

impl FromStr for Ack {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "journal" => Ok(Self::Journal),
            "sinks" => Ok(Self::Sinks),
            other => Err(format!("there are journal, sinks, not {other}")),
        }
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
