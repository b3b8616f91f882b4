//! The real binary's commands: what they print, and their exit codes. The bridge itself is tested over sockets in the
//! `tests` crate.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use hookbus::core::{Scheme, Secret, verify::ToSign};
use serde_json::Value;

fn hookbus(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbus"));
    command
        .current_dir(folder)
        .args(args)
        .env_remove("HOOKBUS_CONFIG")
        .env_remove("HOOKBUS_LOG")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// A folder with what `init` writes.
fn initialised() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = hookbus(folder.path(), &["init"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    folder
}

/// The signature header of a body under the development secret, as an argument.
fn signature(folder: &Path, body: &[u8]) -> String {
    let secret = Secret::from_file_text(fs::read(folder.join("fastpix.secret")).unwrap());
    sign("fastpix", &secret, body, SystemTime::now()).remove(0)
}

fn sign(provider: &str, secret: &Secret, body: &[u8], now: SystemTime) -> Vec<String> {
    let method = "POST".parse().unwrap();
    let request = ToSign { secret, method: &method, url: "", id: "msg_1", event_type: "x", now, body };
    let signed = Scheme::built_in(provider).unwrap().sign(request).unwrap();
    signed.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

#[test]
fn init_writes_a_sound_configuration_and_a_private_secret_once() {
    let folder = initialised();
    let secret = folder.path().join("fastpix.secret");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let checked = hookbus(folder.path(), &["check"]);
    assert_eq!(
        (code(&checked), stdout(&checked).as_str()),
        (0, "hookbus.toml: sound; 1 source, 1 sink, 1 route\n")
    );
    let before = fs::read(&secret).unwrap();
    let again = hookbus(folder.path(), &["init"]);
    assert_eq!(code(&again), 1);
    assert!(stderr(&again).contains("is there already"));
    assert_eq!(fs::read(&secret).unwrap(), before);
}

#[test]
fn check_says_everything_that_is_wrong() {
    let folder = initialised();
    let path = folder.path().join("hookbus.toml");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("listen =", "lisen =")
        .replace("type = \"file\"", "type = \"kafak\"");
    fs::write(&path, text).unwrap();
    let output = hookbus(folder.path(), &["check"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (1, ""));
    let text = stderr(&output);
    for part in ["hookbus.toml:4:1", "lisen = ", "^^^^^", "did you mean `listen`?", "no sink type `kafak`"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let output = hookbus(folder.path(), &["check", "--json"]);
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((code(&output), &json["ok"]), (1, &Value::Bool(false)));
    assert_eq!((&json["problems"][0]["line"], &json["problems"][0]["column"]), (&4.into(), &1.into()));
}

#[test]
fn check_resolves_secrets_unless_told_not_to() {
    let folder = initialised();
    fs::remove_file(folder.path().join("fastpix.secret")).unwrap();
    let output = hookbus(folder.path(), &["check"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("fastpix.secret"), "{}", stderr(&output));
    assert_eq!(code(&hookbus(folder.path(), &["check", "--no-secrets"])), 0);
    fs::write(folder.path().join("fastpix.secret"), "not*base64").unwrap();
    let output = hookbus(folder.path(), &["check"]);
    assert!(stderr(&output).contains("canonical base64"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("not*base64"), "the secret is not shown");
}

#[test]
fn the_demo_shows_two_events_and_refuses_the_forged_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = hookbus(folder.path(), &["demo"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sources: Vec<_> = lines.iter().map(|line| line["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["/hooks/fastpix", "/hooks/fastgen"]);
    assert!(stderr(&output).contains("401 Unauthorized") && stderr(&output).contains("signature_mismatch"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn verify_tells_why_a_request_is_not_authentic() {
    let folder = initialised();
    let verify = |body: &[u8], header: &str| {
        fs::write(folder.path().join("body"), body).unwrap();
        let output =
            hookbus(folder.path(), &["verify", "--source", "fastpix", "--body", "body", "--header", header]);
        (code(&output), stdout(&output))
    };
    let body = br#"{"type":"video.media.ready","id":"1"}"#;
    let header = signature(folder.path(), body);
    let (status, text) = verify(body, &header);
    assert!(status == 0 && text.starts_with("authentic\n") && text.contains("video.media.ready"), "{text}");
    for (altered, finding) in [
        (&br#"{"id":"1","type":"video.media.ready"}"#[..], "no usual mistake"),
        (b"{\"type\":\"video.media.ready\",\"id\":\"1\"}\n", "without the white space at the end"),
    ] {
        let (status, text) = verify(altered, &header);
        assert!(status == 1 && text.contains("signature_mismatch") && text.contains(finding), "{text}");
    }
    let sorted = br#"{"id":"1","type":"x"}"#;
    let (_, text) = verify(b"{ \"id\": \"1\", \"type\": \"x\" }", &signature(folder.path(), sorted));
    assert!(text.contains("parsed and written again"), "{text}");
    let as_text =
        Secret::new(fs::read(folder.path().join("fastpix.secret")).map(|text| base64_of(&text)).unwrap());
    let (_, text) = verify(body, &sign("fastpix", &as_text, body, SystemTime::now())[0]);
    assert!(text.contains("secret's text instead of its base64-decoded bytes"), "{text}");
}

#[test]
fn verify_takes_the_time_of_receipt() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
    fs::write(folder.path().join("body"), "{}").unwrap();
    let secret = Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let signed_at = UNIX_EPOCH + std::time::Duration::from_secs(1_768_000_000);
    let headers = sign("standard-webhooks", &secret, b"{}", signed_at);
    let mut args =
        vec!["verify", "--provider", "standard-webhooks", "--secret-file", "secret", "--body", "body"];
    for header in &headers {
        args.extend(["--header", header]);
    }
    let now = hookbus(folder.path(), &args);
    assert_eq!(code(&now), 1);
    assert!(stdout(&now).contains("timestamp_too_old") && stdout(&now).contains("--at"), "{}", stdout(&now));
    args.extend(["--at", "1768000100", "--json"]);
    let then = hookbus(folder.path(), &args);
    let json: Value = serde_json::from_str(&stdout(&then)).unwrap();
    assert_eq!((code(&then), &json["authentic"], &json["id"]), (0, &Value::Bool(true), &"msg_1".into()));
}

#[test]
fn send_says_what_stands_in_its_way() {
    let folder = initialised();
    let path = folder.path().join("hookbus.toml");
    // Nobody listens there.
    let text = fs::read_to_string(&path).unwrap().replace(":8080", ":1");
    fs::write(&path, text).unwrap();
    for (args, says) in [
        (&["send", "fastpix"][..], "does `hookbus serve` run?"),
        (&["send", "fastpicks"], "did you mean `fastpix`?"),
        (&["send", "fastpix", "--event", "video.media.raedy"], "did you mean `video.media.ready`?"),
        (&["send", "--provider", "github", "--to", "http://127.0.0.1:1/"], "a secret is needed"),
        (&["send", "fastpix", "--file", "missing.json"], "cannot read missing.json"),
        (&["send", "fastpix", "--to", "https://127.0.0.1/"], "http:// addresses"),
    ] {
        let output = hookbus(folder.path(), args);
        assert_eq!(code(&output), 1, "{args:?}");
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn usage_has_its_own_exit_code_and_secrets_are_no_arguments() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(&hookbus(folder.path(), &["serv"])), 2);
    assert_eq!(code(&hookbus(folder.path(), &["send", "fastpix", "--secret", "abc"])), 2);
    assert_eq!(code(&hookbus(folder.path(), &["--help"])), 0);
    assert_eq!(code(&hookbus(folder.path(), &["--version"])), 0);
    let serve = hookbus(folder.path(), &["serve"]);
    assert_eq!(code(&serve), 1);
    assert!(stderr(&serve).contains("hookbus init"), "{}", stderr(&serve));
}

#[test]
fn dead_letters_of_a_folder_that_is_not_there_are_none() {
    let folder = initialised();
    let run = |args: &[&str]| hookbus(folder.path(), &[&["dead-letters"], args].concat());
    let list = run(&["list"]);
    assert_eq!((code(&list), stdout(&list).as_str(), stderr(&list).as_str()), (0, "", "0 dead letters\n"));
    assert!(!folder.path().join("hookbus-data").exists());
    for (args, status, says) in [
        (&["show", "3"][..], 1, "there is no dead letter"),
        (&["discard"], 1, "--all"),
        (&["redrive", "--reroute"], 1, "--all"),
        (&["list", "--before", "yesterday"], 2, "2026-01-31T12:00:00Z"),
        (&["list", "--after", "2h", "--before", "2026-01-31T12:00:00Z"], 0, "0 dead letters"),
    ] {
        let output = run(args);
        assert_eq!(code(&output), status, "{args:?}");
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_data_folder_that_others_hold_has_its_own_exit_code() {
    let folder = initialised();
    let data = folder.path().join("hookbus-data");
    fs::create_dir(&data).unwrap();
    let lock = fs::File::create(data.join("lock")).unwrap();
    lock.try_lock().unwrap();
    for args in [&["serve"][..], &["dead-letters", "list"]] {
        let output = hookbus(folder.path(), args);
        assert_eq!(code(&output), 4, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("in use by another process"), "{}", stderr(&output));
    }
}

#[test]
fn schema_and_completions_are_for_machines() {
    let folder = tempfile::tempdir().unwrap();
    let schema: Value = serde_json::from_str(&stdout(&hookbus(folder.path(), &["schema"]))).unwrap();
    for key in ["server", "journal", "dead-letters", "sources", "sinks", "routes"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    let text = schema.to_string();
    for name in ["handshake", "ack-timeout", "connections-per-address", "publish-timeout"] {
        assert!(text.contains(name), "{name}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&hookbus(folder.path(), &["completions", shell])).contains("hookbus"), "{shell}");
    }
}

/// Standard base64, as the fastpix scheme reads keys.
fn base64_of(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}
