//! `hookbus check`.

use std::process::ExitCode;

use clap::Args;
use hookbus_core::{Router, SinkRegistry};
use serde_json::json;

use super::{FAILURE, Global, Outcome, note, print};
use crate::{
    config::{Config, ConfigError, ConfigText},
    ingress::tls::{self, TlsPaths},
};

#[derive(Args)]
pub(super) struct Check {
    /// Leave the secrets alone: check the file only
    #[arg(long)]
    no_secrets: bool,
}

impl Check {
    pub(super) fn run(&self, global: &Global, registry: &SinkRegistry) -> Outcome {
        let parsed = ConfigText::read(&global.config).and_then(|text| Config::parse(&text, registry));
        let (config, warnings) = match parsed {
            Ok(parsed) => parsed,
            Err(error @ ConfigError::Unreadable { .. }) if global.json => {
                let problem = json!({ "level": "error", "message": error.to_string() });
                print(&json!({ "ok": false, "problems": [problem] }).to_string())?;
                return Ok(ExitCode::from(FAILURE));
            }
            Err(ConfigError::Wrong(mistakes)) if global.json => {
                print(&json!({ "ok": false, "problems": mistakes.to_json() }).to_string())?;
                return Ok(ExitCode::from(FAILURE));
            }
            Err(error) => return Err(error.into()),
        };
        let mut wrong = Vec::new();
        let names = config.sources.iter().map(|source| source.name.clone());
        wrong.extend(Router::new(names, &config.routes).err().map(|error| error.to_string()));
        if !self.no_secrets {
            wrong.extend(
                config.sources.iter().filter_map(|source| source.resolve(&config.base).err()).flatten(),
            );
            wrong.extend(config.sinks.iter().flat_map(|sink| sink.missing_credentials(&config.base)));
        }
        let tls = config.server.tls.as_ref().filter(|_| !self.no_secrets);
        let tls = match tls.map(|files| tls::check(&TlsPaths::new(&config.base, files))).transpose() {
            Ok(validity) => validity,
            Err(error) => {
                wrong.push(error.to_string());
                None
            }
        };
        if global.json {
            let mut problems = warnings.to_json();
            if let Some(problems) = problems.as_array_mut() {
                problems.extend(wrong.iter().map(|message| json!({ "level": "error", "message": message })));
            }
            let expires = tls.map(|validity| validity.until_text());
            print(
                &json!({ "ok": wrong.is_empty(), "problems": problems, "certificate-expires": expires })
                    .to_string(),
            )?;
        } else {
            if !warnings.is_empty() {
                note(&warnings);
            }
            wrong.iter().for_each(|message| note(format_args!("error: {message}")));
            if wrong.is_empty() {
                let Config { sources, sinks, routes, .. } = &config;
                let counts = [(sources.len(), "source"), (sinks.len(), "sink"), (routes.len(), "route")];
                let counts = counts
                    .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
                print(&format!("{}: sound; {}", global.config.display(), counts.join(", ")))?;
                if let Some(validity) = tls {
                    print(&format!("the TLS certificate {validity}"))?;
                }
            }
        }
        Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
    }
}
