//! Secrets for commands: from the environment, a file or stdin, never from an argument, which others can see.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use hookbus_core::{Secret, SecretRef};

use super::{Failure, failure};

#[derive(Args)]
#[group(multiple = false)]
pub(super) struct SecretArgs {
    /// Read the secret from this environment variable
    #[arg(long, value_name = "NAME")]
    secret_env: Option<String>,
    /// Read the secret from this file; one newline at its end does not count
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Read the secret from stdin
    #[arg(long)]
    secret_stdin: bool,
}

impl SecretArgs {
    /// The secret that was named, if any.
    pub(super) fn read(&self) -> Result<Option<Secret>, Failure> {
        let reference = match (&self.secret_env, &self.secret_file) {
            (Some(name), _) => Some(SecretRef::Env(name.clone())),
            (_, Some(path)) => Some(SecretRef::File(path.clone())),
            _ => None,
        };
        if let Some(reference) = reference {
            return Ok(Some(reference.resolve(Path::new(""))?));
        }
        if !self.secret_stdin {
            return Ok(None);
        }
        let mut text = Vec::new();
        std::io::stdin().lock().take(64 << 10).read_to_end(&mut text)?;
        let secret = Secret::from_file_text(text);
        if secret.is_empty() { failure("the secret on stdin is empty") } else { Ok(Some(secret)) }
    }
}
