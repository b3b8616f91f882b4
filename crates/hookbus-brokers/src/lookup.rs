//! Finds brokers for tests, and says so where there are none.

use std::{env, io::Write as _, thread};

use crate::{Broker, Contact, Kind, Options, Result, background, install::is_installed};

/// The broker all tests share: the one that variables name, else the one `cargo xtask brokers up` left.
///
/// Where there is none, a line on stderr says so, past libtest's capture, and the test is to return.
///
/// # Panics
///
/// Where there is none and `CI` is set: there, a missing broker is a failure. And where what was found makes no sense.
pub fn shared(kind: Kind) -> Option<Contact> {
    let found = running(kind).unwrap_or_else(|error| panic!("{error}"));
    if found.is_none() {
        skip(kind);
    }
    found
}

/// What [`shared`] finds.
///
/// # Errors
///
/// If a variable, or what `cargo xtask brokers up` left, makes no sense.
pub fn running(kind: Kind) -> Result<Option<Contact>> {
    match Contact::read(kind, |name| env::var(name).ok())? {
        Some(named) => Ok(Some(named)),
        None => background::status(kind),
    }
}

/// A broker of the test's own, to be killed and paused, as [`Broker::temporary`].
///
/// Where it is not installed, a line on stderr says so, past libtest's capture, and the test is to return.
///
/// # Panics
///
/// Where it is not installed and `CI` is set. And where it is installed and does not come up.
pub fn private(kind: Kind, options: &Options) -> Option<Broker> {
    if !is_installed(kind) {
        skip(kind);
        return None;
    }
    Some(Broker::temporary(kind, options).unwrap_or_else(|error| panic!("{error}")))
}

/// Says that a test is skipped, and why; `cargo xtask test` counts these lines.
fn skip(kind: Kind) {
    let thread = thread::current();
    // libtest names threads after tests.
    let test = thread.name().unwrap_or("a test");
    let line = format!("skipped: {test}: needs {kind}; run `cargo xtask brokers up`");
    assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty() || ci == "false"), "{line}");
    // Where nobody reads stderr, nobody is told.
    let _ = writeln!(std::io::stderr(), "{line}");
}
