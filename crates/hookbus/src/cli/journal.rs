//! `hookbus journal`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use hookbus_core::{SinkRegistry, units::ByteSize};
use hookbus_journal::{DataFolder, OpenError, dedup, repair};
use serde_json::json;

use super::{FAILURE, Global, IN_USE, Outcome, dead_letters::finished, failure, note, print, runtime};
use crate::{
    config::{Config, ConfigText},
    control::{self, Command, JournalLine, NotAsked, OnJournal, Place, Reply},
};

/// Look at the journal, check it, mend it, copy it
#[derive(Args)]
pub(super) struct Journal {
    #[command(subcommand)]
    doing: Doing,
}

#[derive(Subcommand)]
enum Doing {
    /// Say what each sink has to get, and what is on disk
    Status,
    /// Read all of it and say what is damaged, unsealed or superfluous; exit code 1 if anything is
    Check,
    /// Mend what can be mended, while no bridge runs: first pages, footers and tables; no record is touched
    Repair,
    /// Copy the data folder so that the copy opens as one, also while the bridge runs
    ///
    /// The copy holds the key and all events: whoever has it can read every payload and make events that count as
    /// verified. Keep it as safe as the folder itself.
    Backup {
        /// Where to: a folder that is empty or not there yet; a running bridge writes it
        dir: PathBuf,
    },
}

impl Journal {
    pub(super) fn run(self, global: &Global, registry: &SinkRegistry) -> Outcome {
        let (config, _) = Config::parse(&ConfigText::read(&global.config)?, registry)?;
        let command = match self.doing {
            Doing::Repair => return mend(global, &config),
            Doing::Status => OnJournal::Status,
            Doing::Check => OnJournal::Check,
            Doing::Backup { dir } => OnJournal::Backup { to: std::path::absolute(dir)? },
        };
        runtime()?.block_on(ask(global, &config, command))
    }
}

async fn ask(global: &Global, config: &Config, command: OnJournal) -> Outcome {
    let asked = control::ask(Place::of(config)?, Command::Journal(command.clone())).await;
    let mut answer = match asked {
        Err(error @ NotAsked::InUse { .. }) => {
            note(format_args!("error: {error}"));
            return Ok(ExitCode::from(IN_USE));
        }
        asked => asked?,
    };
    while let Some(reply) = answer.recv().await {
        match reply {
            Reply::Journal(status) if global.json => print(&serde_json::to_string(&status)?)?,
            Reply::Journal(status) => print(&table(&status))?,
            Reply::Finding(finding) if global.json => print(&serde_json::to_string(&finding)?)?,
            Reply::Finding(finding) => print(&finding.to_string())?,
            Reply::Error(error) => {
                finished(answer).await;
                return failure(error);
            }
            Reply::Done { done, failed } => {
                finished(answer).await;
                let dir = config.journal.dir.display();
                match command {
                    _ if !DataFolder::exists(&config.journal.dir) => {
                        note(format_args!("there is no data folder {dir}"));
                    }
                    OnJournal::Status => {}
                    OnJournal::Check if failed == 0 => note(format_args!("{dir}: sound")),
                    OnJournal::Check => note(format_args!("{dir}: {failed} findings")),
                    OnJournal::Backup { to } => {
                        note(format_args!("{done} files copied to {}, the key among them", to.display()));
                    }
                }
                return Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) });
            }
            Reply::Working | Reply::Letter(_) | Reply::Rejected(_) | Reply::Failed { .. } => {}
        }
    }
    failure("the bridge ended before its answer did")
}

fn table(status: &JournalLine) -> String {
    let size = |bytes: u64| ByteSize::from_bytes(bytes).to_string();
    let JournalLine { state, segments, disk_bytes, dedup_seconds, dead_letters, damaged, sinks } = status;
    let window = dedup_seconds.map_or("-".into(), |seconds| format!("{seconds}s"));
    let mut text = format!(
        "state         {state}\nsegments      {segments}\non disk       {}\ndedup window  {window}\n\
         dead letters  {dead_letters}\ndamaged       {damaged}\n\nsink\tpending\tbytes\toldest\n",
        size(*disk_bytes),
    );
    for sink in sinks {
        let oldest = sink.oldest_seconds.map_or("-".into(), |seconds| format!("{seconds}s"));
        text += &format!("{}\t{}\t{}\t{oldest}\n", sink.sink, sink.pending_events, size(sink.pending_bytes));
    }
    text
}

fn mend(global: &Global, config: &Config) -> Outcome {
    let dir = &config.journal.dir;
    if !DataFolder::exists(dir) {
        return failure(format!("there is no data folder {}", dir.display()));
    }
    let data = match DataFolder::open(dir) {
        Err(error @ OpenError::InUse(_)) => {
            note(format_args!("error: {error}: stop the bridge first"));
            return Ok(ExitCode::from(IN_USE));
        }
        opened => opened?,
    };
    let known = config.journal.dedup;
    let settings = dedup::Settings { window: known.window.get(), max_size: known.max_size.get() };
    let done = repair(&data.folder(), data.key(), settings)?;
    for repaired in &done {
        match global.json {
            true => print(&serde_json::to_string(repaired)?)?,
            false => print(&repaired.to_string())?,
        }
    }
    let left = hookbus_journal::check(data.folder(), data.key().clone())?;
    for finding in &left.findings {
        match global.json {
            true => print(&json!({ "left": finding }).to_string())?,
            false => note(format_args!("left: {finding}")),
        }
    }
    note(format_args!("{} things mended, {} left that cannot be", done.len(), left.findings.len()));
    Ok(ExitCode::SUCCESS)
}
