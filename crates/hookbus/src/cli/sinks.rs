//! `hookbus sinks`.

use std::process::ExitCode;

use hookbus_core::{SinkRegistry, sink::AddressKey};
use serde_json::json;

use super::{Global, Outcome, print};

/// Lists the types of sink: those of this program, and those it could have.
pub(super) fn run(global: &Global, registry: &SinkRegistry) -> Outcome {
    if global.json {
        let present = registry.iter().map(|sink_type| {
            let key = |key: &AddressKey| {
                json!({ "key": key.name(), "required": key.is_required(), "default": key.default() })
            };
            let address: Vec<_> = sink_type.address().iter().map(key).collect();
            json!({ "type": sink_type.name(), "available": true, "address": address })
        });
        let absent = registry
            .absent()
            .map(|(name, feature)| json!({ "type": name, "available": false, "feature": feature }));
        for line in present.chain(absent) {
            print(&line.to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let present: Vec<_> =
        registry.iter().map(|sink_type| (sink_type.name(), keys(sink_type.address()))).collect();
    let absent: Vec<_> = registry
        .absent()
        .map(|(name, feature)| (name, format!("not compiled in; build with `--features {feature}`")))
        .collect();
    let width = present.iter().chain(&absent).map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, what) in present.iter().chain(&absent) {
        print(&format!("{name:width$}  {what}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The keys of an address, in words.
fn keys(keys: &[AddressKey]) -> String {
    let word = |key: &AddressKey| match key.default() {
        Some(default) => format!("{} (default \"{default}\")", key.name()),
        None if key.is_required() => key.name().to_owned(),
        None => format!("{} (optional)", key.name()),
    };
    match keys {
        [] => "no address".into(),
        keys => format!("address: {}", keys.iter().map(word).collect::<Vec<_>>().join(", ")),
    }
}
