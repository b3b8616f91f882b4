//! `hookbus dead-letters`.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use hookbus_core::{SinkRegistry, units};
use serde_json::json;
use tokio::sync::mpsc;

use super::{FAILURE, Failure, Global, IN_USE, Outcome, failure, note, print, runtime};
use crate::{
    config::{Config, ConfigText},
    control::{self, Chosen, Command, Filter, LetterLine, NotAsked, OnLetters, Place, Reply},
};

/// List, show, redrive and discard events that no try could deliver
#[derive(Args)]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    doing: Doing,
}

#[derive(Subcommand)]
enum Doing {
    /// Say which there are, the oldest first, without their payloads
    List {
        #[command(flatten)]
        which: Which,
    },
    /// Show one with its event
    Show {
        /// Its id, as `list` shows it
        id: u64,
    },
    /// Send them on their way again; they are gone from the list when they are safe
    Redrive {
        #[command(flatten)]
        which: Which,
        /// Really all, where nothing else is said
        #[arg(long)]
        all: bool,
        /// Send them where today's routes say, not where they should have gone
        #[arg(long)]
        reroute: bool,
    },
    /// Remove them for good
    Discard {
        #[command(flatten)]
        which: Which,
        /// Really all, where nothing else is said
        #[arg(long)]
        all: bool,
    },
}

#[derive(Args)]
struct Which {
    /// Only this one; may be repeated
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<u64>,
    /// Only events of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only those of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only events of this type; a pattern, such as `video.media.*`
    #[arg(long = "type", value_name = "PATTERN")]
    event_type: Option<String>,
    /// Only those with this reason, such as `too-large`
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only those given up before this: `2026-01-31T12:00:00Z`, or `2h` for two hours ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<u64>,
    /// Only those given up at this time or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    after: Option<u64>,
    /// So many at most
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

impl Which {
    fn chosen(self) -> Chosen {
        let Self { ids, source, sink, event_type, reason, before, after, limit } = self;
        Chosen { filter: Filter { ids, source, sink, event_type, reason, before, after }, limit }
    }

    /// The same, where something is chosen or all is meant.
    fn meant(self, all: bool) -> Result<Chosen, Failure> {
        let chosen = self.chosen();
        match chosen.filter == Filter::default() && !all {
            true => failure("say which: by a filter such as `--sink NAME`, or `--all`"),
            false => Ok(chosen),
        }
    }
}

impl DeadLetters {
    pub(super) fn run(self, global: &Global, registry: &SinkRegistry) -> Outcome {
        let (command, said) = match self.doing {
            Doing::List { which } => (OnLetters::List(which.chosen()), "dead letters"),
            Doing::Show { id } => (OnLetters::Show { id }, "shown"),
            Doing::Redrive { which, all, reroute } => {
                (OnLetters::Redrive { chosen: which.meant(all)?, reroute }, "redriven")
            }
            Doing::Discard { which, all } => (OnLetters::Discard(which.meant(all)?), "discarded"),
        };
        let show = matches!(command, OnLetters::Show { .. });
        let (config, _) = Config::parse(&ConfigText::read(&global.config)?, registry)?;
        let place = Place::of(&config)?;
        runtime()?.block_on(async {
            let asked = control::ask(place, Command::DeadLetters(command)).await;
            let mut answer = match asked {
                Err(error @ NotAsked::InUse { .. }) => {
                    note(format_args!("error: {error}"));
                    return Ok(ExitCode::from(IN_USE));
                }
                asked => asked?,
            };
            let mut any = false;
            while let Some(reply) = answer.recv().await {
                match reply {
                    Reply::Letter(letter) if global.json => print(&serde_json::to_string(&letter)?)?,
                    Reply::Letter(letter) if show => print(&whole(&letter))?,
                    Reply::Letter(letter) => {
                        if !std::mem::replace(&mut any, true) {
                            print("id\ttime\tsource\ttype\tsink\treason\tattempts\tevent")?;
                        }
                        print(&line(&letter))?;
                    }
                    Reply::Failed { id, error } if global.json => {
                        print(&json!({ "id": id, "failed": error }).to_string())?;
                    }
                    Reply::Failed { id, error } => note(format_args!("dead letter {id}: {error}")),
                    Reply::Working | Reply::Finding(_) | Reply::Journal(_) | Reply::Rejected(_) => {}
                    Reply::Error(error) => {
                        finished(answer).await;
                        return failure(error);
                    }
                    Reply::Done { done: 0, .. } if show => return failure("there is no dead letter"),
                    Reply::Done { done, failed } => {
                        finished(answer).await;
                        if !show {
                            note(format_args!("{done} {said}{}", and_failed(failed)));
                        }
                        return Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) });
                    }
                }
            }
            failure("the bridge ended before its answer did")
        })
    }
}

/// Waits until whoever answered has closed what it opened.
pub(super) async fn finished(mut answer: mpsc::Receiver<Reply>) {
    while answer.recv().await.is_some() {}
}

fn and_failed(failed: u64) -> String {
    if failed == 0 { String::new() } else { format!(", {failed} could not be") }
}

/// Texts that senders choose stand in lines and columns here.
fn line(letter: &LetterLine) -> String {
    let LetterLine { id, time, source, event_type, sink, reason, attempts, event_id, .. } = letter;
    let (event_type, event_id) = (event_type.escape_debug(), event_id.escape_debug());
    format!("{id}\t{time}\t{source}\t{event_type}\t{sink}\t{reason}\t{attempts}\t{event_id}")
}

fn whole(letter: &LetterLine) -> String {
    let LetterLine { id, time, sink, reason, error, attempts, received, .. } = letter;
    let address = letter.address.iter().flatten();
    let address: Vec<_> = address.map(|(name, value)| format!("{name}={}", value.escape_debug())).collect();
    let address = if letter.address.is_some() { address.join(" ") } else { "none".into() };
    let event = letter.event.as_ref().map_or("", |event| event.get());
    let error = error.escape_debug();
    format!(
        "id        {id}\nreason    {reason}\nerror     {error}\nsink      {sink}\naddress   {address}\n\
         attempts  {attempts}\nreceived  {received}\ngiven up  {time}\n\n{event}"
    )
}

/// A point in time or a length of time ago, in milliseconds since 1970.
pub(super) fn time(text: &str) -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    if let Ok(ago) = text.parse::<units::Duration>() {
        return Ok(u64::try_from(now.saturating_sub(ago.get()).as_millis()).unwrap_or(u64::MAX));
    }
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "neither a time such as 2026-01-31T12:00:00Z nor `2h`".to_owned())?;
    u64::try_from(time.as_millisecond()).map_err(|_| "before 1970".to_owned())
}
