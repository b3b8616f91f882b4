//! The configuration explains itself: to its reader, and to whoever mistypes it.

use hookbus_core::{Instant, SinkPlugin, SinkRegistry};
use serde_json::Value as Json;
use toml::de::DeTable;

use crate::{Fixture, Skip, connect, connect::prepare};

/// The fixture's configuration passes the checks and opens a sink.
pub async fn the_configuration_reads_and_opens<F: Fixture>() -> Result<(), Skip> {
    let fixture = F::start().await?;
    let sink = connect::<F::Plugin>(&fixture.config()).await;
    let late = Instant::now() + fixture.patience();
    let closed = sink.close(late).await;
    assert!(closed.is_ok(), "{closed:?}");
    Ok(())
}

/// A key that does not exist is refused at its place, and the key that was probably meant is named.
pub async fn an_unknown_key_is_told_its_place<F: Fixture>() -> Result<(), Skip> {
    let fixture = F::start().await?;
    let keys = keys(&schema::<F>());
    for key in keys.iter().map(String::as_str).chain(keys.is_empty().then_some("nonsense")) {
        let wrong = format!("{key}x");
        if keys.contains(&wrong) {
            continue;
        }
        let config = format!("{wrong} = 1\n{}", fixture.config());
        let problems = prepare::<F::Plugin>(&config).err();
        let problems =
            problems.unwrap_or_else(|| panic!("the key `{wrong}` does not exist, but it is accepted"));
        let found = problems.iter().find(|problem| config.get(problem.span.clone()) == Some(&wrong));
        let found = found.unwrap_or_else(|| panic!("no problem has the place of `{wrong}`: {problems:#?}"));
        let help = found.help.as_deref().unwrap_or_default();
        assert!(keys.is_empty() || help.contains(&format!("`{key}`")), "help for `{wrong}`: {help}");
    }
    Ok(())
}

/// Every key is described, no other is accepted at any depth, and the keys of the fixture are among them.
pub async fn every_key_is_documented<F: Fixture>() -> Result<(), Skip> {
    let fixture = F::start().await?;
    let schema = schema::<F>();
    assert_documented("the sink's table", &schema);
    for (name, definition) in schema.get("$defs").and_then(Json::as_object).into_iter().flatten() {
        assert_documented(name, definition);
    }
    let (config, keys) = (fixture.config(), keys(&schema));
    let table = DeTable::parse(&config).unwrap_or_else(|error| panic!("not TOML: {error}\n{config}"));
    for key in table.get_ref().keys() {
        let key = key.get_ref().as_ref();
        assert!(keys.iter().any(|known| known == key), "the fixture uses `{key}`, the schema knows {keys:?}");
    }
    Ok(())
}

fn schema<F: Fixture>() -> Json {
    let mut registry = SinkRegistry::new();
    registry.register_plugin::<F::Plugin>().expect("an empty registry takes every type");
    let sink_type = registry.get(<F::Plugin as SinkPlugin>::TYPE).expect("it was just registered");
    sink_type.schema().to_value()
}

fn keys(schema: &Json) -> Vec<String> {
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

/// A table's schema describes each key and accepts no other.
fn assert_documented(name: &str, schema: &Json) {
    let is_table = schema.get("type").and_then(Json::as_str) == Some("object");
    let is_map =
        schema.get("properties").is_none() && schema.get("additionalProperties").is_some_and(Json::is_object);
    if is_map {
        // Its keys are somebody else's; what they are has to be said all the same.
        assert!(schema.get("description").is_some(), "{name} takes any key and does not say which there are");
    }
    if !is_table || is_map {
        return;
    }
    assert_eq!(
        schema.get("additionalProperties"),
        Some(&Json::Bool(false)),
        "{name} accepts unknown keys: the type lacks `deny_unknown_fields`"
    );
    for (key, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let described = property.get("description").and_then(Json::as_str).unwrap_or_default();
        assert!(!described.trim().is_empty(), "the key `{key}` of {name} has no doc comment");
    }
}
