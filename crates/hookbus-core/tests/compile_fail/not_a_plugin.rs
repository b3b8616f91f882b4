//! Registering what is no plugin says so in our words.

struct NotAPlugin;

fn main() {
    let _ = hookbus_core::SinkRegistry::new().register_plugin::<NotAPlugin>();
}
