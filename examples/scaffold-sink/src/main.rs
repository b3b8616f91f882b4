//! The stock bridge with two sinks of our own: a plugin with a configuration, and a function.

use std::process::ExitCode;

use hookbus::{
    Hookbus,
    core::{Envelope, sink_fn},
};
use scaffold_sink::Scaffold;

fn main() -> ExitCode {
    Hookbus::builder()
        .with_builtin_sinks()
        .register_plugin::<Scaffold>()
        .register("audit-log", sink_fn(audit))
        .run_from_args()
}

/// The simplest sink: called once per event.
async fn audit(envelope: Envelope) -> Result<(), hookbus::core::SinkError> {
    let event = &envelope.event;
    eprintln!("audit: {} {} from {}", event.event_type(), event.id(), event.source());
    Ok(())
}
