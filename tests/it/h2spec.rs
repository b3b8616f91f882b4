//! The conformance suite h2spec against the real binary: `cargo xtask h2spec` installs it and shows the table.

use std::process::{Command, Output};

use crate::support::{Bridge, Certificate, Setup, say, skip, text_of};

/// What fails, and why that is right.
const EXPECTED: [(&str, &str); 1] = [(
    "Sends invalid connection preface",
    "in clear the preface tells HTTP/2 from HTTP/1.1: what is not the one is answered as the other, by 400",
)];

#[tokio::test]
async fn http2_is_spoken_as_the_standard_says() {
    let Some(h2spec) = text_of("HOOKBUS_TEST_H2SPEC") else {
        return skip("http2_is_spoken_as_the_standard_says", "h2spec: `cargo xtask h2spec`");
    };
    let clear = Bridge::start(Setup::default()).await;
    let tls = Bridge::start_tls(Setup::default(), &Certificate::new()).await;
    say("| h2spec | result | failures |\n|---|---|---|");
    for (name, bridge, more, expected) in
        [("in clear", clear, &[][..], &EXPECTED[..]), ("TLS", tls, &["-t", "-k"], &[])]
    {
        let port = bridge.address().port().to_string();
        let mut command = Command::new(&h2spec);
        command.args(["-h", "127.0.0.1", "-p", &port, "-P", "/hooks/fastpix", "-o", "5"]).args(more);
        let Output { stdout, .. } = command.output().unwrap();
        let text = String::from_utf8_lossy(&stdout);
        let summary = text.lines().rfind(|line| line.contains(" tests, ")).expect("a summary").to_owned();
        let failures = text.split("Failures:").nth(1).unwrap_or_default();
        let failures: Vec<_> = failures.lines().filter_map(|line| Some(line.split_once("× ")?.1)).collect();
        let failures: Vec<_> =
            failures.iter().map(|line| line.split_once(": ").map_or(*line, |(_, name)| name)).collect();
        let reason =
            |failure: &str| expected.iter().find(|(known, _)| *known == failure).map(|(_, why)| *why);
        let told: Vec<_> = failures
            .iter()
            .map(|failure| format!("{failure}: {}", reason(failure).unwrap_or("not expected")))
            .collect();
        say(&format!("| {name} | {summary} | {} |", told.join("; ")));
        assert!(failures.iter().all(|failure| reason(failure).is_some()), "{text}");
        assert!(summary.starts_with("145 tests, "), "{summary}");
    }
}
