//! Secrets by reference: a name in the environment or a file, never the text itself.

use std::{
    borrow::Cow,
    env, fs, io,
    path::{Path, PathBuf},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

use crate::Secret;

/// The longest secret file that is read; provider secrets have some hundred bytes.
const MAX_FILE: u64 = 64 << 10;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In this environment variable.
    Env(String),
    /// In this file; one newline at its end does not count.
    File(PathBuf),
}

/// Why a secret cannot be had. None of it is shown.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The variable or the file is empty.
    #[error("{0} is empty; an empty secret would let anybody sign")]
    Empty(String),
    /// The file cannot be read.
    #[error("cannot read the secret file {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is too long to be a secret.
    #[error("{} is longer than 64 KiB: this is no secret file", .0.display())]
    TooLong(PathBuf),
}

impl SecretRef {
    /// Reads the secret; relative files start from `base`.
    ///
    /// # Errors
    /// [`SecretError`] where it is not there or empty.
    pub fn resolve(&self, base: &Path) -> Result<Secret, SecretError> {
        let secret = match self {
            Self::Env(name) => {
                let text = env::var_os(name).ok_or_else(|| SecretError::Unset(name.clone()))?;
                Secret::new(text.into_encoded_bytes())
            }
            Self::File(path) => {
                let path = base.join(path);
                let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
                if fs::metadata(&path).map_err(unreadable)?.len() > MAX_FILE {
                    return Err(SecretError::TooLong(path));
                }
                Secret::from_file_text(fs::read(&path).map_err(unreadable)?)
            }
        };
        if secret.is_empty() { Err(SecretError::Empty(self.to_string())) } else { Ok(secret) }
    }
}

/// Whether a text is a variable's name as they are usually written, and so no secret.
fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reference;
        impl<'de> de::Visitor<'de> for Reference {
            type Value = SecretRef;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("{ env = \"NAME\" } or { file = \"PATH\" }")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretRef, E> {
                // The text may be the secret: it must not appear in the message.
                Err(E::custom(
                    "a secret does not belong into this file; write { env = \"NAME\" } or { file = \"PATH\" }",
                ))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
                let wrong = "one of `env` and `file`, such as { env = \"NAME\" } or { file = \"PATH\" }";
                let key: String = map.next_key()?.ok_or_else(|| de::Error::custom(wrong))?;
                let found = match key.as_str() {
                    "env" => {
                        let name: String = map.next_value()?;
                        if !is_variable(&name) {
                            // What stands there may be the secret itself: it must not appear in the message.
                            return Err(de::Error::custom("`env` is the name of a variable: A-Z, 0-9 and _"));
                        }
                        SecretRef::Env(name)
                    }
                    "file" => SecretRef::File(map.next_value()?),
                    _ => return Err(de::Error::custom(wrong)),
                };
                match map.next_key::<String>()? {
                    None => Ok(found),
                    Some(_) => Err(de::Error::custom(wrong)),
                }
            }
        }
        input.deserialize_any(Reference)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "where a secret is: an environment variable or a file",
            "oneOf": [
                { "type": "object", "properties": { "env": { "type": "string" } }, "required": ["env"], "additionalProperties": false },
                { "type": "object", "properties": { "file": { "type": "string" } }, "required": ["file"], "additionalProperties": false }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lose_one_newline_and_must_hold_something() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(folder.path().join("s"), text).unwrap();
        let reference = SecretRef::File("s".into());
        assert!(matches!(reference.resolve(folder.path()), Err(SecretError::Unreadable { .. })));
        write("abc\n");
        assert_eq!(reference.resolve(folder.path()).unwrap().expose(), b"abc");
        write("\n");
        assert!(matches!(reference.resolve(folder.path()), Err(SecretError::Empty(_))));
        write(&"x".repeat(70_000));
        assert!(matches!(reference.resolve(folder.path()), Err(SecretError::TooLong(_))));
    }

    #[test]
    fn an_unset_variable_is_an_error() {
        let reference = SecretRef::Env("HOOKBUS_TEST_NEVER_SET".into());
        assert!(matches!(reference.resolve(Path::new(".")), Err(SecretError::Unset(_))));
    }
}
