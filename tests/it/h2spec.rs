//! The conformance suite h2spec against the real binary: `cargo xtask h2spec` installs it and shows the table.

use std::process::{Command, Output};

use crate::support::{Bridge, Certificate, Setup, alone, say, skip, text_of};

/// What fails, and why that is right.
const EXPECTED: [(&str, &str); 1] = [(
    "Sends invalid connection preface",
    "in clear the preface tells HTTP/2 from HTTP/1.1: what is not the one is answered as the other, by 400",
)];
/// Runs, at most. Some cases send frames on a stream that is refused meanwhile, and expect an error. Where the refusal is
/// quicker than they are, those frames are to be ignored (RFC 9113, 5.1): a case counts as failed that fails each time.
const RUNS: usize = 6;

#[tokio::test]
async fn http2_is_spoken_as_the_standard_says() {
    let Some(h2spec) = text_of("HOOKBUS_TEST_H2SPEC") else {
        return skip("http2_is_spoken_as_the_standard_says", "h2spec: `cargo xtask h2spec`");
    };
    let _alone = alone().await;
    let clear = Bridge::start(Setup::default()).await;
    let tls = Bridge::start_tls(Setup::default(), &Certificate::new()).await;
    say("| h2spec | runs | result of the last | failures in each run |\n|---|---|---|---|");
    for (name, bridge, more, expected) in
        [("in clear", clear, &[][..], &EXPECTED[..]), ("TLS", tls, &["-t", "-k"], &[])]
    {
        let reason =
            |failure: &str| expected.iter().find(|(known, _)| *known == failure).map(|(_, why)| *why);
        let port = bridge.address().port().to_string();
        let mut command = Command::new(&h2spec);
        command.args(["-h", "127.0.0.1", "-p", &port, "-P", "/hooks/fastpix", "-o", "5"]).args(more);
        let (mut runs, mut summary, mut failed) = (0, String::new(), None::<Vec<String>>);
        while runs < RUNS && failed.as_ref().is_none_or(|failed| failed.iter().any(|it| reason(it).is_none()))
        {
            let text = run(&mut command);
            summary = text.lines().rfind(|line| line.contains(" tests, ")).expect("a summary").to_owned();
            assert!(summary.starts_with("145 tests, "), "{summary}");
            let now = failures(&text);
            failed = Some(match failed {
                Some(before) => before.into_iter().filter(|it| now.contains(it)).collect(),
                None => now,
            });
            runs += 1;
        }
        let failed = failed.unwrap_or_default();
        let told = failed.iter().map(|it| format!("{it}: {}", reason(it).unwrap_or("not expected")));
        say(&format!("| {name} | {runs} | {summary} | {} |", told.collect::<Vec<_>>().join("; ")));
        assert!(failed.iter().all(|it| reason(it).is_some()), "{failed:?}");
    }
}

fn run(command: &mut Command) -> String {
    let Output { stdout, .. } = command.output().unwrap();
    String::from_utf8_lossy(&stdout).into_owned()
}

/// The names of the cases that failed.
fn failures(text: &str) -> Vec<String> {
    let list = text.split("Failures:").nth(1).unwrap_or_default();
    let lines = list.lines().filter_map(|line| Some(line.split_once("× ")?.1));
    lines.map(|line| line.split_once(": ").map_or(line, |(_, name)| name).to_owned()).collect()
}
