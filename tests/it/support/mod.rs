//! What the end-to-end tests are made of: a bridge of one's own, a raw HTTP client, signatures, and reading
//! back.

mod ack;
mod bridge;
pub(crate) mod bus;
mod frames;
mod http;
mod http2;
mod memory;
mod openmetrics;
mod provider;
mod proxy;
mod tls;
mod wire;
mod written;

use std::{
    env,
    io::{self, Write as _},
    process::Command,
    time::Duration,
};

use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Instant, interval},
};

pub(crate) use self::{
    ack::Ack,
    bridge::{Bridge, Passing, Setup},
    frames::{Frame, Frames, block, frame},
    http::{Client, Response, chunk, head, post},
    http2::Http2,
    memory::{Cost, Memory, held},
    openmetrics::Figures,
    provider::Provider,
    proxy::{Proxy, Says, version_2},
    tls::{Certificate, Trust},
    written::{DeadLetter, Written},
};

/// How long anything may take that should take no time. Far more than needed: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The machine: tests that load it may share it with each other, but not with one that needs it for itself.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Waits for its turn where a test loads the machine or counts on short deadlines, which a loaded machine
/// breaks.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// Waits for its turn where a test loads the machine and counts on nothing, so that others may do the same.
pub(crate) async fn in_company() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
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

/// Says that a test is skipped for want of something, past the capture of the test harness; where figures are what the
/// test is run for, that is a failure.
pub(crate) fn skip(test: &str, needs: &str) {
    let line = format!("skipped: {test}: needs {needs}");
    assert!(text_of("HOOKBUS_TEST_SKIPS").as_deref() != Some("never"), "{line}");
    say(&line);
}

/// Whether a program is missing that `cargo xtask test` installs: that is said, and where `CI` is set it is a failure.
pub(crate) fn is_missing(program: &str, test: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() {
        return false;
    }
    assert!(text_of("CI").is_none_or(|ci| ci == "false"), "{test}: needs {program}");
    skip(test, program);
    true
}

/// Shows a figure, whatever becomes of the test's other output.
pub(crate) fn say(text: &str) {
    io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// A text from the environment, by which `cargo xtask torture` chooses.
pub(crate) fn text_of(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|text| !text.is_empty())
}

/// A number from the environment, by which `cargo xtask torture` makes a test longer.
pub(crate) fn number_of(variable: &str, usually: u64) -> u64 {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")),
        Err(_) => usually,
    }
}
