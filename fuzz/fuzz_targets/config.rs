//! Any text as a configuration: no panic, neither in reading it nor in showing what is wrong with it.

#![no_main]

use hookbus::{Config, ConfigText, config::ConfigError, core::SinkRegistry, sinks};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut registry = SinkRegistry::new();
    sinks::register_builtin(&mut registry).expect("the names are free");
    match Config::parse(&ConfigText::new(text), &registry) {
        Ok((_, warnings)) => drop((warnings.to_string(), warnings.to_json())),
        Err(ConfigError::Wrong(mistakes)) => drop((mistakes.to_string(), mistakes.to_json())),
        Err(error) => panic!("a text is always readable: {error}"),
    }
});
