//! What is in `deploy/` fits the program. Needs Redis compiled in.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, io::ErrorKind, path::PathBuf, process::Command};

use hookbus::{Config, ConfigText, core::SinkRegistry, sinks};

fn deploy(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(deploy(name)).unwrap()
}

/// The arguments behind the program's name, as the unit, the image and the manifest have them.
fn starts() -> Vec<Vec<String>> {
    let quoted = |line: &str| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let line = |text: &str, begins: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(begins));
        line.unwrap_or_else(|| panic!("no {begins}")).trim().to_owned()
    };
    let unit = line(&read("systemd/hookbus.service"), "ExecStart=");
    let unit = unit.split(' ').skip(1).map(str::to_owned).collect();
    let image = quoted(&line(&read("container/Containerfile"), "CMD "));
    let manifest = quoted(&line(&read("kubernetes/hookbus.yaml"), "args: "));
    vec![unit, image, manifest]
}

#[test]
fn the_program_takes_the_arguments_it_is_started_with() {
    for mut arguments in starts() {
        let at = arguments.iter().position(|argument| argument == "--config").unwrap();
        assert_eq!(arguments[at + 1], "/etc/hookbus/hookbus.toml");
        arguments[at + 1] = "/nowhere/hookbus.toml".to_owned();
        let output = Command::new(env!("CARGO_BIN_EXE_hookbus")).args(&arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot read the configuration /nowhere/hookbus.toml"), "{said}");
    }
}

#[test]
fn the_manifests_configuration_is_sound_and_its_paths_are_mounted() {
    let manifest = read("kubernetes/hookbus.yaml");
    let block = manifest.split("hookbus.toml: |\n").nth(1).unwrap();
    let lines = block.lines().take_while(|line| line.starts_with("    ") || line.is_empty());
    let text: String = lines.map(|line| format!("{}\n", line.trim_start_matches("    "))).collect();
    let mut registry = SinkRegistry::new();
    sinks::register_builtin(&mut registry).unwrap();
    let (config, warnings) =
        Config::parse(&ConfigText::new(text), &registry).unwrap_or_else(|error| panic!("{error}"));
    assert!(warnings.is_empty(), "{warnings}");
    let folders: Vec<_> =
        manifest.lines().filter_map(|line| line.trim().strip_prefix("mountPath: ")).collect();
    let secrets: Vec<_> = config.files().collect();
    assert!(!secrets.is_empty());
    for path in secrets.iter().chain([&config.journal.dir, &PathBuf::from("/etc/hookbus/hookbus.toml")]) {
        assert!(folders.iter().any(|folder| path.starts_with(folder)), "{} is not mounted", path.display());
    }
    for (port, listen) in [("http", config.server.listen), ("admin", config.admin.unwrap().listen)] {
        let ports = format!("- name: {port}\n              containerPort: {}", listen.port());
        assert!(manifest.contains(&ports), "{ports}");
    }
}

#[test]
fn systemd_has_nothing_to_say_about_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["hookbus.service", "hookbus.socket"] {
        // The program has to be there for it.
        let text =
            read(&format!("systemd/{name}")).replace("/usr/bin/hookbus", env!("CARGO_BIN_EXE_hookbus"));
        fs::write(folder.path().join(name), text).unwrap();
    }
    let unit = folder.path().join("hookbus.service");
    let verify = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&unit)
        .arg(folder.path().join("hookbus.socket"))
        .output();
    let output = match verify {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: deploy::systemd: needs systemd-analyze, of the package systemd");
            return;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8(output.stderr).unwrap();
    let about_us: Vec<_> = said.lines().filter(|line| line.contains("hookbus")).collect();
    assert!(output.status.success() && about_us.is_empty(), "{said}");
    // Exposure in tenths: 10.0 is a service without any limit.
    let rated = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
        .arg(&unit)
        .output()
        .unwrap();
    assert!(rated.status.success(), "{}", String::from_utf8_lossy(&rated.stdout));
}
