//! Sockets that were passed to this process, as systemd does: `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`.

use std::{env, io, net::TcpListener};

use listenfd::ListenFd;

use super::{Failure, failure};
use crate::Start;

/// The name of the admin listener's socket, as `FileDescriptorName=` gives it.
const ADMIN: &str = "admin";

/// A start with the sockets that were passed: one named `admin` is for the admin listener, the other one for requests.
///
/// Takes them out of the environment: to be called before there are threads.
pub(super) fn passed() -> Result<Start, Failure> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let passed = (0..sockets.len()).map(|at| sockets.take_tcp_listener(at));
    let passed = passed.collect::<io::Result<Vec<_>>>();
    let passed =
        passed.or_else(|error| failure(format!("a socket that was passed by LISTEN_FDS: {error}")))?;
    assign(&names, passed.into_iter().flatten())
}

fn assign(names: &str, sockets: impl Iterator<Item = TcpListener>) -> Result<Start, Failure> {
    let (mut server, mut admin) = (None, None);
    let names = names.split(':').chain(std::iter::repeat(""));
    for (socket, name) in sockets.zip(names) {
        let (place, what) = if name == ADMIN { (&mut admin, "`admin`") } else { (&mut server, "requests") };
        if place.replace(socket).is_some() {
            return failure(format!(
                "two sockets for {what} were passed by LISTEN_FDS; one is named `{ADMIN}`"
            ));
        }
    }
    let start = server.into_iter().fold(Start::default(), Start::server);
    Ok(admin.into_iter().fold(start, Start::admin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> impl Iterator<Item = TcpListener> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
    }

    #[test]
    fn one_is_for_requests_and_one_by_its_name_for_the_admin_listener() {
        for (names, count, server, admin) in [
            ("", 0, false, false),
            ("", 1, true, false),
            ("hookbus.socket", 1, true, false),
            ("admin:server", 2, true, true),
            ("admin", 1, false, true),
            ("admin", 2, true, true),
        ] {
            let start = assign(names, sockets(count)).map_err(|failure| failure.to_string()).unwrap();
            let shown = format!("{start:?}");
            assert_eq!(shown.contains("server: Some"), server, "{names}: {shown}");
            assert_eq!(shown.contains("admin: Some"), admin, "{names}: {shown}");
        }
        for (names, count) in [("", 2), ("admin:admin", 2), ("server:admin:more", 3)] {
            assert!(assign(names, sockets(count)).is_err(), "{names}");
        }
    }
}
