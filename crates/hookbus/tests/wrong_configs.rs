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

#[test]
fn what_deserves_a_warning_gets_one() {
    let sound = "[sources.fastpix]\nprovider = 'fastpix'\nsecrets = []\n[sources.fastgen]\nprovider = 'fastgen'\n\
                 secrets = [{ env = 'X' }]\n[sinks.out]\ntype = 'stdout'\n[[routes]]\nname = 'video'\n\
                 sources = ['fastpix']\ntypes = ['video.*']\nto = [{ sink = 'out' }]\n";
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
        let error = parse(&text).expect_err(line);
        assert!(!error.to_string().contains("LEAK"), "{line}: {error}");
        let ConfigError::Wrong(mistakes) = error else { panic!("{line}") };
        assert!(!mistakes.to_json().to_string().contains("LEAK"), "{line}");
        let inline = format!("sources.s = {{ provider = 'github', {} }}\n", line.replace('\n', " "));
        if let Err(error) = parse(&inline) {
            assert!(!error.to_string().contains("LEAK"), "{inline}: {error}");
        }
    }
}
