//! What is compiled in, and what a program says of it. Run with each feature alone: `cargo xtask features`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, process::Command};

use serde_json::Value;

/// The buses, and whether this program has them.
const BUSES: [(&str, bool); 3] = [
    ("kafka", cfg!(feature = "kafka")),
    ("rabbitmq", cfg!(feature = "rabbitmq")),
    ("redis", cfg!(feature = "redis")),
];

fn hookbus(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbus"));
    command.args(arguments).env_remove("HOOKBUS_CONFIG").output().unwrap()
}

#[test]
fn the_sinks_that_are_compiled_in_are_listed_and_the_others_named() {
    let output = hookbus(&["sinks", "--json"]);
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |name: &str| lines.iter().find(|line| line["type"] == name).unwrap();
    for embedded in ["file", "memory", "stdout"] {
        assert_eq!(find(embedded)["available"], true);
    }
    for (bus, compiled_in) in BUSES {
        assert_eq!(find(bus)["available"], compiled_in, "{bus}");
        assert_eq!(find(bus).get("feature").and_then(Value::as_str), (!compiled_in).then_some(bus));
    }
    let text = String::from_utf8(hookbus(&["sinks"]).stdout).unwrap();
    assert_eq!(text.lines().count(), lines.len());
    assert!(text.contains("path (default \"events.ndjson\")"), "{text}");
}

#[test]
fn a_sink_that_is_not_compiled_in_is_told_its_feature() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("hookbus.toml");
    for (bus, compiled_in) in BUSES {
        fs::write(&config, format!("[sinks.bus]\ntype = \"{bus}\"\n")).unwrap();
        let output = hookbus(&["check", "--config", config.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        let expected = if compiled_in {
            "is missing here".to_owned()
        } else {
            format!("sink type `{bus}` is not compiled in; build with `--features {bus}`")
        };
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains("hookbus.toml:"), "{said}");
    }
}
