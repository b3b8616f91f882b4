//! The stock bridge: every sink that is compiled in, and nothing of its own.

use std::process::ExitCode;

use hookbus::Hookbus;

fn main() -> ExitCode {
    Hookbus::builder().with_builtin_sinks().run_from_args()
}
