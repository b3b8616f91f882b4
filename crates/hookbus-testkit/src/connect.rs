//! Sinks and addresses, made the way a bridge makes them.

use std::sync::Arc;

use hookbus_core::{
    Address, Router, Sink, SinkContext, SinkPlugin, SinkRegistry,
    config::{Problem, Table},
    registry::Prepared,
    route::{Route, Target, Template},
};
use toml::de::DeTable;

use crate::TestEvent;

/// An address at sinks of a type, rendered and checked by a router: there is no other way to make one. Keys that are
/// left out have their default.
///
/// # Panics
/// Where the type has no such key, or refuses the value.
pub fn address<P: SinkPlugin>(keys: &[(&str, &str)]) -> Address {
    for (name, _) in keys {
        assert!(P::ADDRESS.iter().any(|key| key.name() == *name), "{} has no address key `{name}`", P::TYPE);
    }
    let given = |name| keys.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let template = |text: &str| text.parse::<Template>().expect("an address key is a template");
    let templates =
        P::ADDRESS.iter().filter_map(|key| Some((*key, template(given(key.name()).or(key.default())?))));
    let to = vec![Target::new(0, templates.collect())];
    let route = Route { name: "conformance".into(), sources: vec![], types: vec![], to };
    let router = Router::new([Arc::from("fastpix")], &[route]).expect("the sink's type takes this address");
    let decision = router.route(&TestEvent::new("fastpix").subject("subject").build());
    match decision.destinations.first() {
        Some(destination) => destination.address.clone(),
        None => panic!("no such address at {}: {:?}", P::TYPE, decision.unaddressable),
    }
}

/// A sink of a type, from the keys of its `[sinks.NAME]` table without `type`, as a bridge reads and opens it.
///
/// # Panics
/// Where the configuration is refused or the sink cannot be opened.
pub async fn connect<P: SinkPlugin>(config: &str) -> Box<dyn Sink> {
    let prepared = match prepare::<P>(config) {
        Ok(prepared) => prepared,
        Err(problems) => panic!("the configuration of {} is refused: {problems:#?}\n{config}", P::TYPE),
    };
    let opened = prepared.connect(SinkContext::new("conformance", "."));
    opened.await.unwrap_or_else(|error| panic!("{} cannot be opened: {error}", P::TYPE))
}

/// Reads and checks a table, as a bridge does.
pub(crate) fn prepare<P: SinkPlugin>(config: &str) -> Result<Prepared, Vec<Problem>> {
    let table = DeTable::parse(config).unwrap_or_else(|error| panic!("not TOML: {error}\n{config}"));
    let table = Table::new(table.span(), table.into_inner());
    let mut registry = SinkRegistry::new();
    registry.register_plugin::<P>().expect("an empty registry takes every type");
    registry.get(P::TYPE).expect("it was just registered").prepare(&table)
}
