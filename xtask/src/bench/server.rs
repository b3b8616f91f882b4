//! A server under measurement: started, waited for, watched and ended.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::run::Result;

/// How long a server may take until it accepts connections.
const START: Duration = Duration::from_secs(10);
/// The pause between two looks whether it does.
const PAUSE: Duration = Duration::from_millis(10);
/// So much of a server's log is shown when it fails.
const LOG_LINES: usize = 20;

/// A running server; ended when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    log: PathBuf,
}

/// A loopback address nobody listens on.
pub(super) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener.and_then(|listener| listener.local_addr()).map_err(|error| format!("no free port: {error}"))
}

impl Server {
    /// Starts a server and waits until it accepts a connection.
    pub(super) fn start(command: &mut Command, address: SocketAddr, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::create(log).map_err(|error| format!("cannot create {}: {error}", log.display()))?;
        let same = file.try_clone().map_err(|error| format!("cannot share {}: {error}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(same).spawn();
        let child = child.map_err(|error| format!("cannot start {name}: {error}"))?;
        let mut server = Self { child, log: log.to_owned() };
        let deadline = Instant::now() + START;
        while let Err(error) = TcpStream::connect_timeout(&address, START) {
            let ended = server.child.try_wait().map_err(|error| format!("cannot watch {name}: {error}"))?;
            if let Some(status) = ended {
                return Err(format!(
                    "{name} ended before it listened on {address}: {status}\n{}",
                    server.last_words()
                ));
            }
            if Instant::now() > deadline {
                return Err(format!("{name} does not listen on {address}: {error}\n{}", server.last_words()));
            }
            thread::park_timeout(PAUSE);
        }
        Ok(server)
    }

    /// The CPU time the process took so far, user and system, in clock ticks.
    pub(super) fn cpu_ticks(&self) -> Result<u64> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&path).map_err(|error| {
            format!("cannot read {path}, so the server is gone: {error}\n{}", self.last_words())
        })?;
        parse_ticks(&stat).ok_or_else(|| format!("cannot understand {path}: {stat}"))
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = log.lines().collect::<Vec<_>>();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where it is gone already, there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fields 14 and 15 of the line; the second, the program's name, may hold spaces and brackets itself.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut fields = behind_name.split(' ').skip(11).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let stat = "4242 (a (b) c) S 1 4242 4242 0 -1 4194560 120 0 0 0 37 5 0 0 20 0 3 0 1 2 3";
        assert_eq!(parse_ticks(stat), Some(42));
        assert_eq!(parse_ticks("4242 (short) S 1"), None);
    }

    #[test]
    fn a_server_that_ends_is_reported_with_its_last_words() {
        let log = std::env::temp_dir().join(format!("xtask-server-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such key; exit 3"]);
        let error = Server::start(&mut command, free_address().unwrap(), &log).unwrap_err();
        fs::remove_file(&log).unwrap();
        assert!(error.contains("no such key") && error.contains("exit status: 3"), "{error}");
    }
}
