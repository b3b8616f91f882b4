//! The servers that are measured, and what they used.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{param::clock_ticks_per_second, process::Pid};
use tempfile::NamedTempFile;

use crate::support::{Bridge, Provider};

/// A running floor; ended when dropped.
pub(crate) struct Floor {
    child: Child,
    address: SocketAddr,
    _secret: NamedTempFile,
}

impl Floor {
    /// Starts one, which listens when this returns.
    pub(crate) fn start() -> Self {
        let secret = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::write(secret.path(), Provider::FastPix.secret().expose()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
        command.arg("--secret-file").arg(secret.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut floor =
            Self { child: command.spawn().unwrap(), address: ([0; 4], 0).into(), _secret: secret };
        let mut line = String::new();
        BufReader::new(floor.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        floor.address = line.trim().parse().unwrap();
        floor
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Where it is gone already, there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has used so far, as the kernel counts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// On processors, for itself and in the kernel.
    pub(crate) cpu: Duration,
    /// In memory now, in KiB.
    pub(crate) rss: u64,
    /// The most it ever was.
    pub(crate) peak: u64,
}

impl Usage {
    pub(crate) fn of(pid: Pid) -> Self {
        let read = |file| fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_nonzero())).unwrap();
        let (stat, status) = (read("stat"), read("status"));
        // Fields 14 and 15; the second, the program's name, may hold anything.
        let (_, behind_name) = stat.rsplit_once(") ").unwrap();
        let ticks = behind_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap());
        let kib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let cpu = ticks.sum::<u64>() as f64 / clock_ticks_per_second() as f64;
        Self { cpu: Duration::from_secs_f64(cpu), rss: kib("VmRSS:"), peak: kib("VmHWM:") }
    }

    /// The same with only what was used since `before`.
    pub(crate) fn since(self, before: &Self) -> Self {
        Self { cpu: self.cpu - before.cpu, ..self }
    }
}

/// How often a bridge had the disk write down what it holds, by its own figures; nothing where it has no journal.
pub(crate) async fn syncs(bridge: &mut Bridge) -> Option<u64> {
    const NAME: &str = "hookbus_journal_fsync_duration_seconds_count ";
    let page = String::from_utf8(bridge.admin("/metrics").await.body).unwrap();
    page.lines().find_map(|line| line.strip_prefix(NAME)?.trim().parse().ok())
}
