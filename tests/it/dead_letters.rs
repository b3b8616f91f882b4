//! Dead letters of a running bridge, by the command line.

use serde_json::Value;

use crate::support::{Bridge, Provider, Setup};

/// A route whose path needs what events do not have.
const UNADDRESSABLE: &str = r#"
[[routes]]
name = "tenants"
types = ["it.tenant"]
to = [{ sink = "lines", path = "{body:/tenant}.ndjson" }]
"#;

#[tokio::test]
async fn a_running_bridge_lists_shows_and_discards_its_dead_letters() {
    let mut bridge = Bridge::start(Setup { more: UNADDRESSABLE, ..Setup::default() }).await;
    let data = bridge.path("hookbus-data");
    assert!(!data.exists(), "nothing is on disk before the first dead letter");
    let mut client = bridge.connect().await;
    for id in ["1", "2", "3"] {
        let body = format!(r#"{{"id":"{id}","type":"it.tenant","data":{{"n":{id}}}}}"#);
        assert_eq!(client.ask(&Provider::FastPix.request(body.as_bytes())).await.taken(), "accepted");
    }
    assert!(data.join("control.sock").exists());
    let letters = bridge.dead_letters();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.reason == "unaddressable"));
    let list = bridge.command(&["dead-letters", "list", "--limit", "1", "--json"]);
    let first: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&first["event_id"], &first["sink"]), (&"1".into(), &"lines".into()));
    assert!(!list.contains("\"n\""), "no payload in a list");
    let id = first["id"].to_string();
    assert!(bridge.command(&["dead-letters", "show", &id]).contains(r#""data":{"id":"1""#));
    bridge.command(&["dead-letters", "discard", "--id", &id]);
    assert_eq!(bridge.dead_letters().len(), 2);
    bridge.stop().await;
    assert!(!data.join("control.sock").exists());
    assert_eq!(bridge.dead_letters().len(), 2, "the folder is read where no bridge runs");
    bridge.command(&["dead-letters", "discard", "--all"]);
    assert!(bridge.dead_letters().is_empty());
}
