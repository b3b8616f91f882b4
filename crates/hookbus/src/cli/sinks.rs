//! `hookbus sinks`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hookbus_core::{SinkRegistry, sink::AddressKey};
use hookbus_journal::OpenError;
use serde_json::json;

use super::{FAILURE, Global, IN_USE, Outcome, note, print, runtime};
use crate::{
    config::{Config, ConfigText},
    dead_letters::Unavailable,
    retire::{Heir, NotRetired, Retired, retire},
};

/// List the types of sink, with the keys of their addresses; or retire a sink
#[derive(Args)]
pub(super) struct Sinks {
    #[command(subcommand)]
    doing: Option<Doing>,
}

#[derive(Subcommand)]
enum Doing {
    /// Take a sink out of the journal, while no bridge runs: what it has to get goes elsewhere
    Retire(Retire),
}

#[derive(Args)]
struct Retire {
    /// The sink, configured or not any more
    name: String,
    #[command(flatten)]
    to: To,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct To {
    /// Its events go to this sink, at the same addresses
    #[arg(long, value_name = "OTHER")]
    to: Option<String>,
    /// Its events become dead letters
    #[arg(long)]
    dead_letter: bool,
}

impl Sinks {
    pub(super) fn run(self, global: &Global, registry: &SinkRegistry) -> Outcome {
        match self.doing {
            None => list(global, registry),
            Some(Doing::Retire(retire)) => retire.run(global, registry),
        }
    }
}

impl Retire {
    fn run(self, global: &Global, registry: &SinkRegistry) -> Outcome {
        let (config, _) = Config::parse(&ConfigText::read(&global.config)?, registry)?;
        let heir = self.to.to.map_or(Heir::DeadLetters, Heir::Sink);
        let Retired { moved, known, lost } =
            match runtime()?.block_on(retire(&config, registry, &self.name, heir)) {
                Err(NotRetired::Unavailable(Unavailable::Folder(error @ OpenError::InUse(_)))) => {
                    note(format_args!("error: {error}: stop the bridge first"));
                    return Ok(ExitCode::from(IN_USE));
                }
                retired => retired?,
            };
        if global.json {
            print(&json!({ "sink": self.name, "moved": moved, "known": known, "lost": lost }).to_string())?;
        } else {
            print(&format!("{moved} events of sink `{}` moved", self.name))?;
        }
        if known > 0 {
            note(format_args!("{known} of them had been accepted there before, and are not delivered twice"));
        }
        if lost > 0 {
            note(format_args!(
                "{lost} events were damaged on disk and are lost: see `hookbus journal check`"
            ));
            return Ok(ExitCode::from(FAILURE));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Lists the types of sink: those of this program, and those it could have.
fn list(global: &Global, registry: &SinkRegistry) -> Outcome {
    if global.json {
        let present = registry.iter().map(|sink_type| {
            let key = |key: &AddressKey| {
                json!({ "key": key.name(), "required": key.is_required(), "default": key.default() })
            };
            let address: Vec<_> = sink_type.address().iter().map(key).collect();
            json!({ "type": sink_type.name(), "available": true, "address": address })
        });
        let absent = registry
            .absent()
            .map(|(name, feature)| json!({ "type": name, "available": false, "feature": feature }));
        for line in present.chain(absent) {
            print(&line.to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let present: Vec<_> =
        registry.iter().map(|sink_type| (sink_type.name(), keys(sink_type.address()))).collect();
    let absent: Vec<_> = registry
        .absent()
        .map(|(name, feature)| (name, format!("not compiled in; build with `--features {feature}`")))
        .collect();
    let width = present.iter().chain(&absent).map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, what) in present.iter().chain(&absent) {
        print(&format!("{name:width$}  {what}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The keys of an address, in words.
fn keys(keys: &[AddressKey]) -> String {
    let word = |key: &AddressKey| match key.default() {
        Some(default) => format!("{} (default \"{default}\")", key.name()),
        None if key.is_required() => key.name().to_owned(),
        None => format!("{} (optional)", key.name()),
    };
    match keys {
        [] => "no address".into(),
        keys => format!("address: {}", keys.iter().map(word).collect::<Vec<_>>().join(", ")),
    }
}
