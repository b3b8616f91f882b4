//! The configurations in the documentation are sound. Needs every bus.
#![cfg(all(feature = "kafka-tls", feature = "rabbitmq-tls", feature = "redis-tls"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path};

use hookbus::{Config, ConfigText, core::SinkRegistry, sinks};

/// The blocks of TOML in a page that are whole configurations: with sources, sinks and routes.
fn configurations(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| ["[sources.", "[sinks.", "[[routes]]"].iter().all(|part| block.contains(part)))
}

#[test]
fn every_configuration_in_the_documentation_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut registry = SinkRegistry::new();
    sinks::register_builtin(&mut registry).unwrap();
    for (page, least) in [
        ("README.md", 1),
        ("docs/handshakes.md", 1),
        ("docs/behind-a-proxy.md", 1),
        ("docs/journal.md", 1),
        ("docs/sinks/embedded.md", 1),
        ("docs/sinks/kafka.md", 1),
        ("docs/sinks/rabbitmq.md", 1),
        ("docs/sinks/redis.md", 1),
    ] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let mut found = 0;
        for block in configurations(&text) {
            found += 1;
            if let Err(error) = Config::parse(&ConfigText::new(block), &registry) {
                panic!("{page}: {error}\n{block}");
            }
        }
        assert!(found >= least, "{page} has {found} configurations");
    }
}
