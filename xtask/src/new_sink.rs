//! Begins a sink of one's own: the example sink, which passes the conformance kit, under another name.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    run::{Result, cargo, run},
    workspace::Workspace,
};

/// The sink that is copied. It is a member of the workspace, so it builds and passes, and its copy does.
const TEMPLATE: &str = "examples/custom-sink";
/// What it is called in there, in the ways it is written.
const NAMES: [&str; 3] = ["custom-sink", "custom_sink", "collector"];

/// Begin a sink of your own: a crate with a sink, its plugin, a main and the conformance kit, which it passes.
#[derive(Debug, Args)]
pub(crate) struct NewSink {
    /// The `type` in a configuration: a word of a-z and 0-9, such as `pulsar`.
    name: String,
}

impl NewSink {
    pub(crate) fn run(&self) -> Result {
        let folder = create(&self.name, Path::new("."))?;
        let name = &self.name;
        println!(
            "{} is a sink that sends JSON lines over TCP, and passes the conformance kit:\n\n  \
             cargo test -p {name}-sink\n\nMake it yours from there: docs/custom-sink.md says how.",
            folder.display()
        );
        Ok(())
    }
}

/// Makes a sink, lets it pass the kit, and removes it again: what `new-sink` promises.
pub(crate) fn check(_: &Workspace) -> Result {
    const NAME: &str = "scaffold";
    let read_lock = || fs::read("Cargo.lock").map_err(|error| format!("cannot read Cargo.lock: {error}"));
    let lock = read_lock()?;
    // One that was interrupted left it behind; git ignores it.
    let left = Path::new("examples").join(format!("{NAME}-sink"));
    match fs::remove_dir_all(&left) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(format!("cannot remove {}: {error}", left.display()));
        }
        _ => {}
    }
    let folder = create(NAME, Path::new("."))?;
    let tested = run(&mut cargo(["test", "--all-features", "-p", "scaffold-sink"]));
    let removed =
        fs::remove_dir_all(&folder).map_err(|error| format!("cannot remove {}: {error}", folder.display()));
    let restored =
        fs::write("Cargo.lock", lock).map_err(|error| format!("cannot restore Cargo.lock: {error}"));
    tested.and(removed).and(restored)
}

/// Copies the template below `root` and returns the new folder.
fn create(name: &str, root: &Path) -> Result<PathBuf> {
    let word = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !word || NAMES.iter().any(|taken| taken.starts_with(name)) {
        return Err(format!("`{name}` is no name for a sink: a word of a-z and 0-9 that is not taken"));
    }
    let folder = root.join(format!("examples/{name}-sink"));
    if folder.exists() {
        return Err(format!("{} is there already", folder.display()));
    }
    copy(&root.join(TEMPLATE), &folder, name)?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path, name: &str) -> Result {
    let failed = |what: &Path, error: std::io::Error| format!("{}: {error}", what.display());
    fs::create_dir_all(to).map_err(|error| failed(to, error))?;
    for entry in fs::read_dir(from).map_err(|error| failed(from, error))? {
        let from = entry.map_err(|error| failed(from, error))?.path();
        let Some(file) = from.file_name().and_then(|file| file.to_str()) else { continue };
        let to = to.join(renamed(file, name));
        if from.is_dir() {
            copy(&from, &to, name)?;
        } else {
            let text = fs::read_to_string(&from).map_err(|error| failed(&from, error))?;
            fs::write(&to, renamed(&text, name)).map_err(|error| failed(&to, error))?;
        }
    }
    Ok(())
}

/// The text with the new name for the old one, however it is written.
fn renamed(text: &str, name: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1);
        first.to_ascii_uppercase() + rest
    };
    text.replace("custom-sink", &format!("{name}-sink"))
        .replace("custom_sink", &format!("{name}_sink"))
        // The page about sinks is everybody's.
        .replace(&format!("docs/{name}-sink.md"), "docs/custom-sink.md")
        .replace("collector", name)
        .replace("Collector", &capital(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_the_name_is_changed() {
        let text =
            "use custom_sink::Collector; // custom-sink/collector, docs/custom-sink.md, CollectorConfig";
        let expected = "use pulsar_sink::Pulsar; // pulsar-sink/pulsar, docs/custom-sink.md, PulsarConfig";
        assert_eq!(renamed(text, "pulsar"), expected);
    }

    #[test]
    fn names_are_words_that_are_free() {
        for name in ["", "Pulsar", "event-hub", "1st", "../x", "custom", "collector"] {
            assert!(create(name, Path::new("nowhere")).is_err(), "{name}");
        }
    }
}
