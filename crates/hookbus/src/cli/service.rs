//! What a service manager hears of us, where one listens: by `NOTIFY_SOCKET`, as systemd has it.

use std::{
    convert::Infallible,
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::OnceLock,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};

/// The service manager. Without one nothing is said.
#[derive(Debug)]
pub(super) struct Service {
    manager: Option<SocketAddr>,
    /// How soon it wants to hear again that we are alive.
    watchdog: Option<Duration>,
    /// It was said that the manager cannot be reached.
    unreachable: OnceLock<()>,
}

impl Service {
    /// The manager that the environment names.
    pub(super) fn from_environment() -> Self {
        let manager = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            let address = address(&name);
            address.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET names no socket")).ok()
        });
        let watchdog = watchdog(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref());
        Self { manager, watchdog, unreachable: OnceLock::new() }
    }

    /// Requests are served.
    pub(super) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// The configuration is being read again; [`Service::ready`] follows in any case.
    pub(super) fn reloading(&self) {
        // By the time the manager tells this word from one it has heard before.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// No new requests are served.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=answering what is in progress\n");
    }

    /// Says again and again that we are alive, as often as the manager wants to hear it. Never ends.
    pub(super) async fn keep_alive(&self) -> Infallible {
        let Some(within) = self.watchdog else { return std::future::pending().await };
        // Twice as often, as it asks for.
        let mut beat = interval((within / 2).max(Duration::from_millis(1)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.say("WATCHDOG=1\n");
        }
    }

    fn say(&self, message: &str) {
        let Some(manager) = &self.manager else { return };
        let said = UnixDatagram::unbound().and_then(|socket| {
            // A manager that is busy must not hold us up.
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), manager)
        });
        if let Err(error) = said
            && self.unreachable.set(()).is_ok()
        {
            tracing::warn!(%error, "the service manager cannot be told how we are");
        }
    }
}

fn text(variable: &str) -> Option<String> {
    env::var(variable).ok()
}

/// A path, or behind `@` a name that is in no file system.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// How soon the manager wants to hear from this process, where it does.
fn watchdog(micros: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let mine = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let micros = micros?.parse().ok().filter(|micros| *micros > 0 && mine)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_for_the_process_it_names() {
        let me = std::process::id().to_string();
        assert_eq!(watchdog(Some("2000000"), None), Some(Duration::from_secs(2)));
        assert_eq!(watchdog(Some("2000000"), Some(&me)), Some(Duration::from_secs(2)));
        for (micros, pid) in
            [(Some("2000000"), Some("1")), (Some("0"), None), (Some("x"), None), (None, None)]
        {
            assert_eq!(watchdog(micros, pid), None, "{micros:?} {pid:?}");
        }
    }

    #[test]
    fn a_name_may_be_in_no_file_system() {
        assert_eq!(address(OsStr::new("@a/b")).unwrap().as_abstract_name(), Some(b"a/b".as_slice()));
        let path = address(OsStr::new("/run/notify")).unwrap();
        assert_eq!(path.as_pathname(), Some(std::path::Path::new("/run/notify")));
    }
}
