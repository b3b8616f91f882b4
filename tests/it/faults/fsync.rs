//! An fsync of the journal fails: nobody knows what the disk holds, so nothing more is accepted; what was answered is there.

use std::collections::BTreeSet;

use crate::support::{Ack, Bridge, Passing, Provider, is_missing, post, say, until};

use Provider::FastPix;

/// So many fsyncs of the first segment come back, and none behind them.
const SOUND: usize = 40;

#[tokio::test]
async fn after_an_fsync_that_failed_nothing_is_accepted_and_what_was_answered_arrives() {
    if !Ack::is_journal("faults::fsync") || is_missing("strace", "faults::fsync") {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data = folder.path().join("data");
    // The process stays this one's child: its tracer is a grandchild.
    let inject = format!("inject=fdatasync:error=EIO:when={SOUND}+");
    let segment = data.join("0000000001.segment").display().to_string();
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
    let by = strace.into_iter().chain(["-P", &segment]).map(str::to_owned).collect();
    let config = format!(
        r#"[server]
listen = "127.0.0.1:0"
[journal]
dir = "{}"
[sources.fastpix]
provider = "fastpix"
secrets = [{{ file = "fastpix.secret" }}]
ack-timeout = "30s"
[sinks.lines]
type = "file"
dir = "events"
[[routes]]
name = "all"
to = [{{ sink = "lines", path = "{{source}}.ndjson" }}]
"#,
        data.display()
    );
    let mut bridge = Bridge::start_passing(&config, Passing { by, ..Passing::default() }).await;
    let mut client = bridge.connect().await;
    let mut accepted = BTreeSet::new();
    let refused = loop {
        let id = format!("e{}", accepted.len());
        let body = format!(r#"{{"id":"{id}","type":"it.event","object":{{"id":"m"}}}}"#);
        let request = post(
            "/hooks/fastpix",
            &[(FastPix.header(), &FastPix.signature(body.as_bytes()))],
            body.as_bytes(),
        );
        let response = client.ask(&request).await;
        if response.status != 200 {
            break response;
        }
        accepted.insert(id);
        assert!(accepted.len() <= SOUND, "each of them alone waits for an fsync");
    };
    assert_eq!(refused.problem(503), "not_delivered");
    assert_eq!(bridge.exit_code().await, 5, "{}", bridge.log());
    assert!(bridge.log().contains("error: an fsync of the journal failed"), "{}", bridge.log());
    assert!(accepted.len() > SOUND / 4, "{accepted:?}");

    // The disk is put right; the segment it failed on is read back and never written to again.
    bridge.start_again();
    bridge.listens().await;
    let arrived = |bridge: &Bridge| -> BTreeSet<_> {
        bridge.written("fastpix").into_iter().map(|written| written.id).collect()
    };
    until("what was answered arrives", || arrived(&bridge).is_superset(&accepted)).await;
    bridge.stop().await;
    say(&format!(
        "fsync: {} answered 200 before it failed, exit code 5, all of them arrived",
        accepted.len()
    ));
}
