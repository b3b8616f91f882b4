//! Kafka's jars: there is no Debian package, but a build tool brings them.

use std::{fs, path::PathBuf, process::Command};

use crate::{Error, Result, error::Doing as _, folders, process::output};

/// The project whose dependencies Maven copies.
const PROJECT: &str = include_str!("kafka-pom.xml");

/// The folder holds the jars of just this version.
const FOLDER: &str = "kafka-4.1.0";

/// The folder of the jars, if they are here.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = folders::root()?.join(FOLDER);
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(Error::Invalid("Kafka's jars are missing; run `cargo xtask brokers up kafka`".into()))
}

/// Fetches the jars where they are missing.
pub(crate) fn fetch() -> Result<()> {
    if folder().is_ok() {
        return Ok(());
    }
    // Under another name until all are here: half of them must not be taken for the whole.
    let work = folders::root()?.join(format!("{FOLDER}-{}", std::process::id()));
    let libs = folders::make(work.join("libs"))?;
    folders::write(&work.join("pom.xml"), PROJECT)?;
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
    maven.arg(format!("-DoutputDirectory={}", libs.display())).current_dir(&work);
    output(&mut maven)?;
    let target = folders::root()?.join(FOLDER);
    match fs::rename(&libs, &target) {
        // Another process was quicker.
        Err(_) if target.is_dir() => {}
        renamed => renamed.doing(|| format!("make {}", target.display()))?,
    }
    folders::remove(&work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_named_after_the_version() {
        let version = FOLDER.trim_start_matches("kafka-");
        assert!(PROJECT.contains(&format!("<version>{version}</version>")));
    }
}
