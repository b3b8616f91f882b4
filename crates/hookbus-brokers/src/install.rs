//! Makes sure that programs are there; on Debian, as root, by installing them.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Error, Kind, Result, error::Doing as _, jars, rabbitmq};

/// A program and what brings it.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// What is run to see whether it is there.
    pub program: &'static str,
    /// With which arguments; then it must end well.
    pub arguments: &'static [&'static str],
    /// The Debian packages that bring it.
    pub packages: &'static [&'static str],
}

const OPENSSL: Need = Need { program: "openssl", arguments: &["version"], packages: &["openssl"] };
const SETPRIV: Need = Need { program: "setpriv", arguments: &["--version"], packages: &["util-linux"] };

impl Need {
    fn is_met(&self) -> bool {
        let mut command = Command::new(self.program);
        command.args(self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// What a broker needs.
fn needs(kind: Kind) -> Vec<Need> {
    let mut needs = vec![OPENSSL, SETPRIV];
    match kind {
        Kind::Redis => needs.push(Need {
            program: "redis-server",
            arguments: &["--version"],
            packages: &["redis-server"],
        }),
        // Started, even to ask for its version, it would write to the machine's own folders.
        Kind::RabbitMq => needs.push(Need {
            program: "test",
            arguments: &["-x", rabbitmq::SERVER],
            packages: &["rabbitmq-server"],
        }),
        Kind::Kafka => needs.extend([
            // Not only the runtime: there is an example of a consumer in Java.
            Need { program: "javac", arguments: &["-version"], packages: &["default-jdk-headless"] },
            Need { program: "mvn", arguments: &["--version"], packages: &["maven"] },
        ]),
    }
    needs
}

/// Whether a broker could be started now.
pub fn is_installed(kind: Kind) -> bool {
    needs(kind).iter().all(Need::is_met) && (kind != Kind::Kafka || jars::folder().is_ok())
}

/// Makes sure that brokers can be started: Debian's packages, and Kafka's jars below cargo's target folder.
///
/// # Errors
///
/// If something is missing and cannot be installed: [`Error::Missing`] says what to install as root.
pub fn install(kinds: &[Kind]) -> Result<()> {
    let needs = kinds.iter().flat_map(|kind| needs(*kind)).collect::<Vec<_>>();
    provide(&needs)?;
    if kinds.contains(&Kind::Kafka) { jars::fetch() } else { Ok(()) }
}

/// Makes sure that programs are there, all in one go.
///
/// # Errors
///
/// As [`install`].
pub fn provide(needs: &[Need]) -> Result<()> {
    let missing = needs.iter().filter(|need| !need.is_met()).collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages = missing.iter().flat_map(|need| need.packages).copied().collect::<Vec<_>>();
    packages.sort_unstable();
    packages.dedup();
    let apt_get = Need { program: "apt-get", arguments: &["--version"], packages: &[] };
    if rustix::process::geteuid().is_root() && apt_get.is_met() {
        let _quiet = QuietServices::new(Path::new(POLICY))?;
        run_apt_get(&["update"])?;
        run_apt_get(&[&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat())?;
    }
    // Installed or not: what counts is whether it is there now.
    let still = missing.into_iter().filter(|need| !need.is_met()).map(|need| {
        let what = [&[need.program], need.arguments].concat().join(" ");
        format!("`{what}`")
    });
    let still = still.collect::<Vec<_>>();
    if still.is_empty() {
        return Ok(());
    }
    Err(Error::Missing { what: still.join(", "), packages: packages.join(" ") })
}

fn run_apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=600"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // A caller's stdout is for its result.
    command.stdin(Stdio::null()).stdout(io::stderr());
    let status = command.status().doing(|| "run apt-get".into())?;
    if status.success() {
        return Ok(());
    }
    let command = format!("apt-get {}", arguments.join(" "));
    Err(Error::Command { command, status, output: "its messages are above".into() })
}

/// As long as it lives, Debian's packages start no services when they are installed: nobody asked for a broker on a
/// public port.
struct QuietServices(Option<PathBuf>);

/// Debian asks this program, if there is one, whether a service may be started; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

impl QuietServices {
    fn new(policy: &Path) -> Result<Self> {
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(policy) {
            // The machine has a policy of its own, and whoever wrote it knows better.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self(None)),
            file => {
                let ours = Self(Some(policy.to_owned()));
                let written = file.and_then(|mut file| file.write_all(b"#!/bin/sh\nexit 101\n"));
                written.doing(|| format!("write {}", policy.display())).map(|()| ours)
            }
        }
    }
}

impl Drop for QuietServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.0 {
            // Where it stays, whoever finds it reads in two lines what it does.
            let _ = fs::remove_file(policy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folders::Scratch;

    #[test]
    fn a_need_is_met_by_a_program_that_ends_well() {
        let need = |program, arguments| Need { program, arguments, packages: &[] };
        assert!(need("test", &["-d", "."]).is_met());
        assert!(!need("test", &["-f", "."]).is_met());
        assert!(!need("no-such-program", &[]).is_met());
        provide(&[need("test", &["-d", "."])]).unwrap();
    }

    #[test]
    fn services_are_kept_quiet_for_a_while_and_a_policy_of_the_machine_stays() {
        let scratch = Scratch::new(Kind::Redis).unwrap();
        let policy = scratch.path().join("policy");
        let quiet = QuietServices::new(&policy).unwrap();
        assert_eq!(Command::new(&policy).status().unwrap().code(), Some(101));
        drop(QuietServices::new(&policy).unwrap());
        assert!(policy.exists());
        drop(quiet);
        assert!(!policy.exists());
    }
}
