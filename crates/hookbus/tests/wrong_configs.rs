//! Wrong configurations and what a person reads about them, as snapshots.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test -p hookbus --test wrong_configs`, and read each.

use std::{fs, path::Path};

use hookbus::{Config, ConfigText, config::ConfigError, core::SinkRegistry, sinks};

fn parse(text: &str) -> Result<String, ConfigError> {
    let mut registry = SinkRegistry::new();
    sinks::register_builtin(&mut registry).expect("names are free");
    Config::parse(&ConfigText::new(text), &registry).map(|(_, warnings)| warnings.to_string())
}

#[test]
fn each_wrong_configuration_explains_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "{} files", files.len());
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "wrong_configs" }, {
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap();
            let error = parse(&text).expect_err(name).to_string();
            assert!(!error.contains("zKOov") && !error.contains("whsec_C2F"), "{name} shows a secret");
            insta::assert_snapshot!(name, error);
        }
    });
}

#[cfg(all(feature = "kafka", feature = "rabbitmq", feature = "redis"))]
#[test]
fn each_wrong_bus_explains_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong_buses");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "wrong_configs" }, {
        for bus in ["kafka", "rabbitmq", "redis"] {
            let error = parse(&fs::read_to_string(folder.join(format!("{bus}.toml"))).unwrap()).expect_err(bus).to_string();
            assert!(!error.contains("hunter2"), "{bus} shows a secret");
            insta::assert_snapshot!(bus, error);
        }
    });
    let key = "[sources.fastgen]\nprovider = 'fastgen'\nsecrets = [{ env = 'X' }]\n[sinks.k]\ntype = 'kafka'\n\
               brokers = ['h:9092']\n[[routes]]\nname = 'all'\nto = [{ sink = 'k', topic = 't', key = '{id}' }]\n";
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "wrong_configs" }, {
        insta::assert_snapshot!("kafka-key", parse(key).unwrap());
    });
}

#[test]
fn what_deserves_a_warning_gets_one() {
    let sound = "[sources.fastpix]\nprovider = 'fastpix'\nsecrets = []\n[sources.fastgen]\nprovider = 'fastgen'\n\
                 secrets = [{ env = 'X' }]\n[sinks.out]\ntype = 'stdout'\n[[routes]]\nname = 'video'\n\
                 sources = ['fastpix']\ntypes = ['video.*']\nto = [{ sink = 'out' }]\n\
                 [sources.zoom]\nprovider = 'zoom'\nsecrets = [{ env = 'X' }]\nredact = ['/payload/object/phone']\n\
                 [[routes]]\nname = 'zoom'\nsources = ['zoom']\nto = [{ sink = 'out' }]\n";
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "wrong_configs" }, {
        insta::assert_snapshot!("warnings", parse(sound).unwrap());
    });
    let complete = "[sources.fastgen]\nprovider = 'fastgen'\nsecrets = [{ env = 'X' }]\n[sinks.out]\ntype = 'stdout'\n\
                    [[routes]]\nname = 'all'\nto = [{ sink = 'out' }]\n";
    assert_eq!(parse(complete).unwrap(), "");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let wrong = [
        "secrets = 'whsec_LEAK'",
        "secrets = ['whsec_LEAK']",
        "secrets = [{ value = 'whsec_LEAK' }]",
        "secrets = { env = 'whsec_LEAK' }",
        "secrets = [{ env = 'whsec_LEAK' }]",
        "secret = 'whsec_LEAK'",
        "key = 'whsec_LEAK'",
        "scheme = 'whsec_LEAK'",
        "scheme = { alg = 'hmac-sha256', key = 'whsec_LEAK' }",
        "scheme = { alg = 'hmac-sha256', secret = 'whsec_LEAK' }",
        "secrets = ['whsec_LEAK",
        "secrets = [\n  'whsec_LEAK' 'x'\n]",
        "SIGNING_KEY = 'whsec_LEAK",
        "signing-key = whsec_LEAK",
        "secrets = [{ env = \"A\" }, \"\"\"\nwhsec_LEAK\n\"\"\"]",
    ];
    for line in wrong {
        let text = format!("[sources.s]\nprovider = 'github'\n{line}\n");
        assert_silent(&text);
        assert_silent(&format!("sources.s = {{ provider = 'github', {} }}\n", line.replace('\n', " ")));
    }
    for text in [
        "secret = 'whsec_LEAK1234'",
        "[server]\nsecret = 'LEAK'",
        "admin = { token = 'LEAK' }",
        "[dead-letters]\nsecret = 'LEAK'",
        "[[routes]]\nsecret = 'LEAK'",
        "[[routes]]\nname = 'x'\nto = [{ sink = 'a', password = 'LEAK' }]",
        "source = { a = { secrets = ['LEAK'] } }",
        "sources = 'LEAK'",
        "sources = [{ secrets = 'LEAK' }]",
        "[sources.a]\nprovider = \"fastpix\", secrets = [\"LEAK\"]",
        "[[routes]]\nname = \"x\", secret = \"LEAK\"",
        "sources = { a = { provider = 'x', secrets = ['LEAK'] }",
        "[sources.a] secrets = [LEAK]",
        "[sources.a]\nprovidr = 'fastpix' # LEAK",
        "[sources.a]\nprovider = 'whsec_LEAK1234'",
        "[sources.a]\nprovider = 'zKOov76vvXvE9lTCxrTnpGLEAKd1bVI8WghX01cZuFK8Mc='",
        "[sources.a]\nprovider = 'github'\nack = 'whsec_LEAK1234'",
        "[sources.a]\nprovider = 'github'\nsecrets = [{ 'whsec_LEAK1234' = 'env' }]",
        "[sources.a]\nprovider = 'github'\nsecrets = 'abc, expected LEAK'",
        "[sinks.a]\ntype = 'file'\npublish-timeout = 'whsec_LEAK1234'",
        "[sinks.a]\ntype = 'file'\nurl = 'amqp://user:LEAK@host'",
    ] {
        assert_silent(text);
    }
}

/// Checks that a wrong configuration is explained without the word that stands for a secret.
fn assert_silent(text: &str) {
    let Err(error) = parse(text) else { panic!("sound: {text}") };
    assert!(!error.to_string().contains("LEAK"), "{text}:\n{error}");
    let ConfigError::Wrong(mistakes) = error else { panic!("{text}") };
    assert!(!mistakes.to_json().to_string().contains("LEAK"), "{text}");
}

#[test]
fn mistakes_of_every_kind_are_told_together() {
    let text = "[sources.s]\nprovider = 'fastpx'\nack-timeout = '99s'\npublic-url = 'x'\nordr = 'subject'\n\
                secrets = ['a', 'b', { env = 'C' }]\n[sinks.a]\ntype = 'file'\n[sinks.b]\ntype = 'file'\n";
    let error = parse(text).unwrap_err().to_string();
    for part in ["`fastpx`", "more than 30s", "must begin with https", "`ordr`", "both use the folder events"]
    {
        assert!(error.contains(part), "{part}:\n{error}");
    }
    assert_eq!(error.matches("a secret does not belong").count(), 2, "{error}");
}
