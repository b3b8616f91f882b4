//! Sample events: recorded shapes for FastPix and Fastgen, made up ones for the rest.

use hookbus_core::nearest;
use serde_json::{Value, json};

use super::{Failure, failure};

/// One event a line, exactly as it would be sent.
const FASTPIX: &str = include_str!("../../samples/fastpix.ndjson");
const FASTGEN: &str = include_str!("../../samples/fastgen.ndjson");

/// A sample event.
pub(super) struct Sample {
    pub(super) event_type: String,
    pub(super) body: Vec<u8>,
}

/// The sample of this type, or the most usual one of the provider. Each has a fresh id, so that it counts as new.
pub(super) fn sample(provider: &str, event_type: Option<&str>, now_ms: u128) -> Result<Sample, Failure> {
    let (lines, key, usual) = match provider {
        "fastpix" => (FASTPIX, "type", "video.media.ready"),
        "fastgen" => (FASTGEN, "event", "cv-score-finished"),
        _ => return Ok(made_up(event_type.unwrap_or("example.event"), now_ms)),
    };
    let wanted = event_type.unwrap_or(usual);
    let type_of =
        |line: &str| serde_json::from_str::<Value>(line).ok()?.get(key)?.as_str().map(str::to_owned);
    let types: Vec<_> = lines.lines().filter_map(|line| Some((type_of(line)?, line))).collect();
    let Some((_, line)) = types.iter().find(|(known, _)| known == wanted) else {
        let names = || types.iter().map(|(name, _)| name.as_str());
        let hint =
            nearest(wanted, names()).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        let all = names().collect::<Vec<_>>().join("\n  ");
        return failure(format!(
            "there is no sample of type `{wanted}`{hint}; there are\n  {all}\nor give a --file"
        ));
    };
    // The top-level id stands as a text of its own in each sample; only that is replaced.
    let old =
        serde_json::from_str::<Value>(line)?.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let fresh = uuid::Uuid::now_v7().to_string();
    let body = line.replace(&format!("\"id\":\"{old}\""), &format!("\"id\":\"{fresh}\"")).into_bytes();
    Ok(Sample { event_type: wanted.to_owned(), body })
}

/// A small event with an id, a type and a time under the names that providers commonly use.
fn made_up(event_type: &str, now_ms: u128) -> Sample {
    let id = uuid::Uuid::now_v7().to_string();
    let body = json!({
        "id": id, "event_id": id, "type": event_type, "event": event_type, "event_type": event_type, "topic": event_type,
        "webhookTimestamp": u64::try_from(now_ms).unwrap_or_default(),
        "data": { "id": "example", "note": "made up by hookbus send" },
    });
    Sample { event_type: event_type.to_owned(), body: body.to_string().into_bytes() }
}
