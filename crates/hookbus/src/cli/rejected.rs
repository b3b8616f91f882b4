//! `hookbus rejected`.

use std::{
    fmt::Write as _, fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, process::ExitCode,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use hookbus_core::{Refusal, SinkRegistry};

use super::{
    Failure, Global, IN_USE, Outcome,
    dead_letters::{finished, time},
    failure, note, print, runtime,
};
use crate::{
    config::{Config, ConfigText},
    control::{self, BodyAs, Command, Details, NotAsked, OnRejected, Place, RejectedLine, Reply},
    rejected::Chosen,
};

/// List and show requests that were not accepted, and say why
#[derive(Args)]
pub(super) struct Rejected {
    #[command(subcommand)]
    doing: Doing,
}

#[derive(Subcommand)]
enum Doing {
    /// Say which are kept, the newest first, without headers and bodies
    List {
        /// Only requests to this source
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Only those with this reason, such as `signature_mismatch`
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// Only those answered at this time or later: `2026-01-31T12:00:00Z`, or `2h` for two hours ago
        #[arg(long, value_name = "TIME", value_parser = time)]
        since: Option<u64>,
        /// So many at most, up to 10000
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: usize,
    },
    /// Show one with its headers and its body, and what explains that it was not accepted
    Show {
        /// Its id, as `list` shows it
        id: u64,
        /// Write the body to a new file, byte for byte
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
    },
}

impl Rejected {
    pub(super) fn run(self, global: &Global, registry: &SinkRegistry) -> Outcome {
        let (command, body_to) = match self.doing {
            Doing::List { source, reason, since, limit } => {
                (OnRejected::List(Chosen { source, reason, since, limit: Some(limit) }), None)
            }
            Doing::Show { id, body } => {
                let how = if body.is_some() { BodyAs::Received } else { BodyAs::Masked };
                (OnRejected::Show { id, body: how }, body)
            }
        };
        let show = matches!(command, OnRejected::Show { .. });
        let (config, _) = Config::parse(&ConfigText::read(&global.config)?, registry)?;
        let place = Place::of(&config)?;
        runtime()?.block_on(async {
            let mut answer = match control::ask(place, Command::Rejected(command)).await {
                Err(error @ NotAsked::InUse { .. }) => {
                    note(format_args!("error: {error}"));
                    return Ok(ExitCode::from(IN_USE));
                }
                asked => asked?,
            };
            let mut any = false;
            while let Some(reply) = answer.recv().await {
                match reply {
                    Reply::Rejected(mut line) => {
                        if let (Some(path), Some(details)) = (&body_to, &mut line.details) {
                            save(path, details)?;
                            // What goes to a file unmasked goes there alone.
                            details.body_base64.clear();
                            line.body = SAVED.into();
                        }
                        match &line.details {
                            _ if global.json => print(&serde_json::to_string(&line)?)?,
                            Some(details) => print(&whole(&line, details))?,
                            None => {
                                if !std::mem::replace(&mut any, true) {
                                    print("id\ttime\tsource\tstatus\treason\tclient\tmethod\tbody")?;
                                }
                                print(&row(&line))?;
                            }
                        }
                    }
                    Reply::Error(error) => {
                        finished(answer).await;
                        return failure(error);
                    }
                    Reply::Done { done: 0, .. } if show => {
                        finished(answer).await;
                        return failure("nothing is kept");
                    }
                    Reply::Done { done, .. } => {
                        finished(answer).await;
                        note(format_args!("{done} rejected requests"));
                        return Ok(ExitCode::SUCCESS);
                    }
                    Reply::Working
                    | Reply::Letter(_)
                    | Reply::Journal(_)
                    | Reply::Finding(_)
                    | Reply::Failed { .. } => {}
                }
            }
            failure("the bridge ended before its answer did")
        })
    }
}

/// What is said of a body that went to a file.
const SAVED: &str = "saved";

/// Texts that senders choose stand in lines and columns here.
fn row(line: &RejectedLine) -> String {
    let RejectedLine { id, time, source, status, reason, client, method, .. } = line;
    let body = line.body_bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes}B"));
    format!("{id}\t{time}\t{source}\t{status}\t{reason}\t{client}\t{}\t{body}", method.escape_debug())
}

fn whole(line: &RejectedLine, details: &Details) -> String {
    let RejectedLine { id, time, source, status, reason, client, method, path, query, body, .. } = line;
    let explained = Refusal::ALL.into_iter().find(|refusal| refusal.as_str() == reason);
    let explained = explained.map(|refusal| format!(": {}", refusal.explain())).unwrap_or_default();
    let query = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("{method} {path}{query}");
    let mut text = format!(
        "id        {id}\ntime      {time}\nsource    {source}\nclient    {client}\nrequest   {}\nreason    {reason} \
         ({status}){explained}\n",
        target.escape_debug()
    );
    // Writing to a string cannot fail.
    for finding in &details.findings {
        let _ = writeln!(text, "          - {finding}");
    }
    text.push('\n');
    for (name, value) in &details.headers {
        let value = value.as_ref().map_or_else(|| "***".to_owned(), |value| value.escape_debug().to_string());
        let _ = writeln!(text, "{name}: {value}");
    }
    if details.headers_left_out > 0 {
        let _ = writeln!(text, "({} more)", details.headers_left_out);
    }
    let bytes = STANDARD.decode(&details.body_base64).unwrap_or_default();
    let all = line.body_bytes.unwrap_or_default();
    let _ = match body.as_str() {
        "not-read" => write!(text, "\n(no body: it was not read, or says nothing about the reason)"),
        SAVED => write!(text, "\n(the body of {all} bytes is in the file)"),
        "left" => write!(text, "\n(a body of {all} bytes was not kept)"),
        "cut" => write!(text, "\n{}\n({} of {all} bytes)", harmless(&bytes), bytes.len()),
        _ => write!(text, "\n{}", harmless(&bytes)),
    };
    text
}

/// A body as text for a terminal: what could steer it is escaped.
fn harmless(bytes: &[u8]) -> String {
    let mut text = String::new();
    for letter in String::from_utf8_lossy(bytes).chars() {
        match letter {
            '\n' | '\t' => text.push(letter),
            letter if letter.is_control() => text.extend(letter.escape_default()),
            letter => text.push(letter),
        }
    }
    text
}

fn save(path: &PathBuf, details: &Details) -> Result<(), Failure> {
    let bytes = STANDARD.decode(&details.body_base64)?;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.or_else(|error| failure(format!("cannot make {}: {error}", path.display())))?;
    Ok(file.write_all(&bytes)?)
}
