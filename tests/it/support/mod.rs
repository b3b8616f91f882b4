//! What the end-to-end tests are made of: a bridge of one's own, a raw HTTP client, signatures, and reading
//! back.

mod bridge;
mod http;
mod memory;
mod provider;
mod written;

use std::{env, time::Duration};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, interval},
};

pub(crate) use self::{
    bridge::{Bridge, Setup},
    http::{Client, chunk, head, post},
    memory::Memory,
    provider::Provider,
    written::Written,
};

/// How long anything may take that should take no time. Far more than needed: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The one at work among the tests that need the machine for themselves.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Waits for its turn where a test loads the machine or counts on short deadlines, which a loaded machine
/// breaks.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// Waits until it holds, by looking; panics with `what` where it does not come to hold.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut look = interval(Duration::from_millis(5));
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come to this: {what}");
        look.tick().await;
    }
}

/// A number from the environment, by which `cargo xtask torture` makes a test longer.
pub(crate) fn number_of(variable: &str, usually: u64) -> u64 {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")),
        Err(_) => usually,
    }
}
