//! `tls` in the table of a sink: the same for every destination.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{SecretRef, registry::Invalid};

/// What TLS needs beyond the system's certificates. `{}` is TLS with those alone.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "tls")]
pub struct TlsConfig {
    /// Certificates to trust, as PEM. Relative to the configuration file. Default: the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Our own certificate, as PEM, where the destination asks for one. Relative to the configuration file.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Where the key of our certificate is.
    #[serde(default)]
    pub key: Option<SecretRef>,
}

impl TlsConfig {
    /// What types cannot say: a certificate is of use with its key only.
    ///
    /// # Errors
    /// For [`SinkPlugin::validate`](crate::SinkPlugin::validate), at the key `tls`.
    pub fn check(&self) -> Result<(), Invalid> {
        match self.cert.is_some() == self.key.is_some() {
            true => Ok(()),
            false => Err(Invalid { key: "tls", message: "`tls.cert` and `tls.key` go together".into() }),
        }
    }
}
