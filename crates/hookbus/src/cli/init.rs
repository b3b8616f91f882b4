//! `hookbus init`.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::json;

use super::{Failure, Global, Outcome, failure, print};

/// The configuration `init` writes.
const CONFIG: &str = include_str!("init.toml");

#[derive(Args)]
pub(super) struct Init {
    /// The folder to write into
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
}

impl Init {
    pub(super) fn run(&self, global: &Global) -> Outcome {
        std::fs::create_dir_all(&self.dir)?;
        // `--config` names the file, also here.
        let config = self.dir.join(&global.config);
        let secret = config.with_file_name("fastpix.secret");
        for path in [&config, &secret] {
            if path.exists() {
                return failure(format!("{} is there already; nothing was written", path.display()));
            }
        }
        write_new(&config, 0o644, CONFIG)?;
        if let Err(failed) = development_secret().and_then(|text| write_new(&secret, 0o600, &text)) {
            // Half of it would only be in the way of the next try.
            let _ = std::fs::remove_file(&config);
            return Err(failed);
        }
        if global.json {
            print(&json!({ "config": config, "secret": secret }).to_string())?;
        } else {
            let folder = if self.dir == Path::new(".") {
                String::new()
            } else {
                format!("cd {} && ", self.dir.display())
            };
            print(&format!(
                "wrote {} and {} (a random development secret)\n\nNext:\n  {folder}hookbus serve\n  {folder}hookbus send fastpix      in another terminal",
                config.display(),
                secret.display(),
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// 32 random bytes in base64, as FastPix displays its secrets.
pub(super) fn development_secret() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(STANDARD.encode(bytes))
}

pub(super) fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => failure(format!("{} is there already", path.display())),
        _ => failure(format!("cannot write {}: {error}", path.display())),
    })?;
    Ok(file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?)
}
