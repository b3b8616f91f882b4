//! What cargo knows about the workspace.

use std::{env, path::PathBuf};

use serde_json::Value;

use crate::run::{Result, cargo, output};

/// The workspace; its root is the current directory from here on.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// A member.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its features, `default` included.
    pub(crate) features: Vec<String>,
}

impl Workspace {
    /// Asks cargo, and moves to the root of the workspace.
    pub(crate) fn load() -> Result<Self> {
        let text = output(&mut cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata =
            serde_json::from_str(&text).map_err(|error| format!("cannot read cargo's metadata: {error}"))?;
        let root = PathBuf::from(string(&metadata, "workspace_root")?);
        env::set_current_dir(&root).map_err(|error| format!("cannot enter {}: {error}", root.display()))?;
        Self::read(&metadata)
    }

    fn read(metadata: &Value) -> Result<Self> {
        let packages = metadata["packages"].as_array().ok_or("cargo's metadata names no packages")?;
        let package = |package: &Value| {
            let features = package["features"].as_object().ok_or("a package without `features`")?;
            Ok(Package { name: string(package, "name")?, features: features.keys().cloned().collect() })
        };
        Ok(Self {
            target: string(metadata, "target_directory")?.into(),
            packages: packages.iter().map(package).collect::<Result<_>>()?,
        })
    }
}

fn string(value: &Value, key: &str) -> Result<String> {
    Ok(value[key].as_str().ok_or_else(|| format!("cargo's metadata has no `{key}`"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_every_package_are_read() {
        let metadata = serde_json::json!({
            "target_directory": "built",
            "packages": [{ "name": "a", "features": { "default": [], "kafka": ["dep:a-kafka"] } }],
        });
        let workspace = Workspace::read(&metadata).unwrap();
        assert_eq!(workspace.packages[0].name, "a");
        assert_eq!(workspace.packages[0].features, ["default", "kafka"]);
        assert!(
            Workspace::read(&serde_json::json!({ "packages": [] })).unwrap_err().contains("target_directory")
        );
    }
}
