//! Commands on what is in the data folder. They go to the folder itself when no bridge runs, else to the bridge by a
//! socket in it; one desk answers both ways.

mod ask;
mod by_journal;
mod journal;
mod letters;
mod redrive;
mod rejected;
mod server;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use hookbus_journal::{DeadLetters, Finding};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::rejected::Rejected;

pub(crate) use ask::{NotAsked, Place, ask};
pub(crate) use by_journal::ByJournal;
pub(crate) use journal::{JournalLine, Kept, OnJournal};
pub(crate) use letters::{Chosen, Filter, LetterLine, OnLetters};
pub(crate) use redrive::{NotRedriven, Redrive, Today, destinations, shown};
pub(crate) use rejected::{BodyAs, Details, OnRejected, RejectedLine};
pub(crate) use server::Control;

/// The socket's name in the data folder.
const SOCKET: &str = "control.sock";
/// Answers that may wait for a slow reader.
const REPLIES: usize = 16;

/// What may be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// About dead letters.
    DeadLetters(OnLetters),
    /// About the journal.
    Journal(OnJournal),
    /// About requests that were not accepted.
    Rejected(OnRejected),
}

/// One line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// A dead letter.
    Letter(Box<LetterLine>),
    /// One that could not be dealt with, and why.
    Failed { id: u64, error: String },
    /// How the journal is.
    Journal(Box<JournalLine>),
    /// A request that was not accepted.
    Rejected(Box<RejectedLine>),
    /// What is wrong.
    Finding(Finding),
    /// It takes its time.
    Working,
    /// The end of an answer that came to its end.
    Done { done: u64, failed: u64 },
    /// The end of one that did not.
    Error(String),
}

/// Where answers go.
pub(crate) type Replies = mpsc::Sender<Reply>;

/// Answers commands.
#[derive(Clone)]
pub(crate) struct Desk {
    letters: DeadLetters,
    redrive: Arc<dyn Redrive>,
    kept: Option<Kept>,
    rejected: Option<Arc<Rejected>>,
}

impl Desk {
    pub(crate) fn new(letters: DeadLetters, redrive: Arc<dyn Redrive>) -> Self {
        Self { letters, redrive, kept: None, rejected: None }
    }

    /// Takes commands on this folder too.
    pub(crate) fn with(mut self, kept: Kept) -> Self {
        self.kept = Some(kept);
        self
    }

    /// Tells of requests that were not accepted, too.
    pub(crate) fn with_rejected(self, rejected: Option<Arc<Rejected>>) -> Self {
        Self { rejected, ..self }
    }

    /// Does what is asked. Ends early where nobody takes the answers any more.
    async fn answer(&self, command: Command, replies: &Replies) {
        let done = match (command, &self.kept) {
            (Command::DeadLetters(command), _) => self.on_letters(command, replies).await,
            (Command::Journal(command), Some(kept)) => kept.answer(command, replies).await,
            (Command::Journal(_), None) => Err(Stopped("there is no journal".into())),
            (Command::Rejected(command), _) => match &self.rejected {
                Some(rejected) => rejected::answer(rejected.known(), command, replies).await,
                None => Err(Stopped("this bridge keeps no rejected requests".into())),
            },
        };
        end(done, replies).await;
    }
}

/// Says how an answer ended.
async fn end(done: Result<(u64, u64), Stopped>, replies: &Replies) {
    let last = match done {
        Ok((done, failed)) => Reply::Done { done, failed },
        Err(stopped) => Reply::Error(stopped.0),
    };
    let _ = replies.send(last).await;
}

/// Why an answer did not come to its end.
struct Stopped(String);

impl Stopped {
    /// Nobody takes the answers any more.
    fn gone() -> Self {
        Self("nobody waits for the answer".into())
    }
}

impl<E: std::error::Error> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
