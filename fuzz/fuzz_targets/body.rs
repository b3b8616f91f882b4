//! Any body, really signed and verified: its line is JSON that a common reader takes, and holds the body exactly.

#![no_main]

use hookbus_testkit::event;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, value::RawValue};

fuzz_target!(|body: &[u8]| {
    let event = event("fastpix", body.to_vec());
    assert!(!event.id().as_str().is_empty() && !event.event_type().is_empty());
    let mut line = Vec::new();
    event.write_structured(&mut line);
    let text = std::str::from_utf8(&line).expect("a line is text");
    assert_eq!(text.matches('\n').count(), 1);
    let value: Value = serde_json::from_str(text).expect("a common reader takes it");
    match value.get("data_base64") {
        Some(encoded) => assert!(encoded.is_string()),
        None => {
            let members: std::collections::HashMap<String, &RawValue> =
                serde_json::from_str(text).expect("the same text again");
            assert_eq!(members["data"].get().as_bytes(), body);
        }
    }
});
