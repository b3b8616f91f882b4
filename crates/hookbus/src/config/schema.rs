//! The configuration as JSON Schema, for editors.

use hookbus_core::{Format, SinkRegistry};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Admin, DeadLetters, Journal, Rejected, Server, route::RouteTable, source::SourceTable};

/// JSON Schema (draft 2020-12) of a configuration file with these types of sink.
pub fn schema(registry: &SinkRegistry) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let admin = generator.subschema_for::<Admin>();
    let server = generator.subschema_for::<Server>();
    let journal = generator.subschema_for::<Journal>();
    let dead_letters = generator.subschema_for::<DeadLetters>();
    let rejected = generator.subschema_for::<Rejected>();
    let source = generator.subschema_for::<SourceTable>();
    generator.subschema_for::<RouteTable>();
    let mut definitions = Value::Object(generator.take_definitions(true));
    let mut sinks = Vec::new();
    for sink_type in registry.iter() {
        let mut sink = sink_type.schema().to_value();
        let nested = sink.as_object_mut().and_then(|sink| sink.remove("$defs"));
        if let (Some(Value::Object(nested)), Some(all)) = (nested, definitions.as_object_mut()) {
            all.extend(nested);
        }
        if let Some(sink) = sink.as_object_mut() {
            sink.remove("$schema");
            let properties = sink.entry("properties").or_insert_with(|| json!({}));
            properties["type"] = json!({ "const": sink_type.name() });
            properties["publish-timeout"] =
                json!({ "type": "string", "description": "how long one publish may take; default: 5s" });
            properties["max-pending"] = json!({ "type": "string", "description": "bytes of undelivered events; default: half of the journal's max-size" });
            properties["when-full"] = json!({ "enum": ["refuse", "dead-letter"], "description": "what happens to events beyond max-pending; default: refuse" });
            properties["required"] = json!({ "type": "boolean", "description": "whether the bridge is ready only when this sink is; default: true" });
            let required = sink.entry("required").or_insert_with(|| json!([]));
            if let Some(required) = required.as_array_mut() {
                required.push("type".into());
            }
        }
        sinks.push(sink);
    }
    if let Some(route) = definitions.get_mut("route") {
        route["properties"]["to"] = to_schema(registry);
        if let Some(required) = route["required"].as_array_mut() {
            required.push("to".into());
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hookbus configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "server": server,
            "admin": admin,
            "journal": journal,
            "dead-letters": dead_letters,
            "rejected": rejected,
            "sources": { "type": "object", "additionalProperties": source },
            "sinks": { "type": "object", "additionalProperties": { "oneOf": sinks } },
            "routes": { "type": "array", "items": { "$ref": "#/$defs/route" } }
        },
        "$defs": definitions
    })
}

/// Destinations: the address keys of all sink types, since only the sink's name tells which apply.
fn to_schema(registry: &SinkRegistry) -> Value {
    let mut keys =
        Map::from_iter([("sink".to_owned(), json!({ "type": "string", "description": "name of a sink" }))]);
    let formats = Format::ALL.map(Format::as_str);
    keys.insert(
        "format".to_owned(),
        json!({ "enum": formats, "description": "the body with its attributes beside it, or all of it as one JSON document; default: binary, where the sink has both" }),
    );
    keys.insert(
        "redact".to_owned(),
        json!({ "type": "boolean", "description": "whether what the source's `redact` names is masked there; default: false" }),
    );
    for sink_type in registry.iter() {
        for key in sink_type.address() {
            let description = format!("address at a `{}` sink; a template", sink_type.name());
            keys.entry(key.name()).or_insert_with(|| json!({ "type": "string", "description": description }));
        }
    }
    json!({
        "type": "array",
        "minItems": 1,
        "description": "where matching events go",
        "items": { "type": "object", "properties": keys, "required": ["sink"], "additionalProperties": false }
    })
}
