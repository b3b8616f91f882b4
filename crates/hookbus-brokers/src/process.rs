//! Programs that are started, signalled and waited for.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{Error, Result, error::Doing as _, family};

/// How a program is started, again and again in the same way.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Where it runs. A process is known again by this, so no two brokers may have the same.
    pub(crate) folder: PathBuf,
    /// Where its output goes, added at the end.
    pub(crate) log: PathBuf,
}

/// How long a program lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until this process ends, however it does.
    Ours,
    /// Until somebody ends it.
    Detached,
}

impl Launch {
    /// The command; its output goes to the log.
    fn command(&self, lifetime: Lifetime) -> Result<Command> {
        let mut command = match lifetime {
            Lifetime::Detached => Command::new(&self.program),
            // The kernel kills it when we die; asking it to do so from here would need `unsafe`.
            Lifetime::Ours => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL"]).arg(&self.program);
                command
            }
        };
        let doing = || format!("open {}", self.log.display());
        let log = File::options().append(true).create(true).open(&self.log).doing(doing)?;
        let same = log.try_clone().doing(doing)?;
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        // A group of its own: Ctrl-C in a terminal ends us, and what belongs to us then; a detached one stays.
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log).stderr(same).process_group(0);
        Ok(command)
    }

    /// Runs it to its end, which must be a good one.
    pub(crate) fn run(&self) -> Result<()> {
        let mut command = self.command(Lifetime::Ours)?;
        let status = command.status().doing(|| format!("run {}", self.program.display()))?;
        if status.success() {
            return Ok(());
        }
        let command = format!("{} {}", self.program.display(), self.arguments.join(" "));
        Err(Error::Command { command, status, output: tail(&self.log) })
    }
}

/// Runs a command to its end, which must be a good one, and gives what it wrote to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().doing(|| format!("run {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let wrote = text(&output.stdout) + &text(&output.stderr);
    Err(Error::Command { command: format!("{command:?}"), status: output.status, output: wrote })
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 30;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A running program, by a handle that never means another one, even if its number is used again.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: OwnedFd,
    /// Where it is our child: it must be waited for, or it stays as a zombie.
    child: Option<Child>,
}

impl Process {
    pub(crate) fn start(launch: &Launch, lifetime: Lifetime) -> Result<Self> {
        let doing = || format!("start {}", launch.program.display());
        let child = spawn(launch.command(lifetime)?).doing(doing)?;
        let pid = Pid::from_child(&child);
        let handle = pidfd_open(pid, PidfdFlags::empty()).doing(doing)?;
        Ok(Self { pid, handle, child: Some(child) })
    }

    /// A running process that somebody else started.
    pub(crate) fn open(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(pid.try_into().ok()?)?;
        Some(Self { pid, handle: pidfd_open(pid, PidfdFlags::empty()).ok()?, child: None })
    }

    /// A process somebody else started, if it still runs and runs in this folder.
    pub(crate) fn find(pid: u32, folder: &Path) -> Option<Self> {
        // The handle first: what is looked at then is what the handle means.
        let process = Self::open(pid)?;
        let runs_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (runs_in == folder).then_some(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(&self.handle, signal).doing(|| format!("signal process {}", self.pid))
    }

    /// Waits until it has ended, at most so long; says whether it has.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<bool> {
        let doing = || format!("wait for process {}", self.pid);
        let time = Timespec::try_from(time).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        let time = time.doing(doing)?;
        let mut ended = [PollFd::new(&self.handle, PollFlags::IN)];
        let count = rustix::io::retry_on_intr(|| poll(&mut ended, Some(&time))).doing(doing)?;
        if count > 0
            && let Some(child) = &mut self.child
        {
            child.wait().doing(doing)?;
        }
        Ok(count > 0)
    }

    /// Ends it and all below it at once, and waits until they have ended.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL, Duration::ZERO)
    }

    /// Ends it with a signal, if it ends within this time, else at once; and in any case all below it.
    pub(crate) fn end(&mut self, signal: Signal, time: Duration) -> Result<()> {
        // While it runs: those it leaves behind are nobody's.
        let mut all = family::below(self.pid());
        // One that is paused would not hear the other. One that ended by itself hears neither.
        let _ = self.signal(signal);
        let _ = self.signal(Signal::CONT);
        if !self.wait(time)? {
            self.end_now()?;
        }
        all.iter_mut().try_for_each(Self::end_now)
    }

    fn end_now(&mut self) -> Result<()> {
        /// The kernel needs no time for this, but a busy machine may.
        const TIME: Duration = Duration::from_secs(30);
        // It may have ended by itself.
        let _ = self.signal(Signal::KILL);
        match self.wait(TIME)? {
            true => Ok(()),
            false => Err(Error::Invalid(format!("process {} does not end", self.pid))),
        }
    }
}

type Job = (Command, SyncSender<io::Result<Child>>);

/// Starts programs in a thread that lives as long as this process: the kernel kills them when the *thread* that
/// started them ends, and threads of tests end early.
static STARTER: LazyLock<SyncSender<Job>> = LazyLock::new(|| {
    let (sender, jobs) = sync_channel::<Job>(1);
    thread::spawn(move || {
        for (mut command, answer) in jobs {
            // Nobody waits any more: then the child has nobody either, and ends with us.
            let _ = answer.send(command.spawn());
        }
    });
    sender
});

fn spawn(command: Command) -> io::Result<Child> {
    let (sender, answer) = sync_channel(1);
    let gone = || io::Error::other("the thread that starts programs is gone");
    STARTER.send((command, sender)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}
