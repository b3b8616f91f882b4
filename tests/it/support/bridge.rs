//! A running `hookbus serve` with a folder of its own.

use std::{
    fs,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::timeout,
};

use super::{Certificate, Client, DeadLetter, PATIENCE, Provider, Written, http::Response};

/// The configuration in a bridge's folder.
const CONFIG: &str = "hookbus.toml";

/// What differs from test to test in the configuration; each text is TOML.
pub(crate) struct Setup {
    /// Entries of `[server]`.
    pub(crate) server: &'static str,
    /// The entries of `limits`.
    pub(crate) limits: &'static str,
    /// The entries of `timeouts`.
    pub(crate) timeouts: &'static str,
    /// The secrets of the source `fastpix`.
    pub(crate) fastpix_secrets: &'static str,
    /// More tables.
    pub(crate) more: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            server: "",
            // All clients have one address here.
            limits: "connections-per-address = 1024",
            timeouts: "",
            fastpix_secrets: "[{ file = \"fastpix.secret\" }]",
            more: "",
        }
    }
}

impl Setup {
    /// Sources for FastPix and Fastgen, answered once a file for each has the event. Events of type `it.ignored` match no route.
    fn config(&self) -> String {
        let Self { server, limits, timeouts, fastpix_secrets, more } = self;
        // A busy machine may take its time for an fsync: what these tests are about is not how fast it is.
        format!(
            r#"[server]
listen = "127.0.0.1:0"
{server}
limits = {{ {limits} }}
timeouts = {{ {timeouts} }}
[sources.fastpix]
provider = "fastpix"
secrets = {fastpix_secrets}
ack = "sinks"
ack-timeout = "30s"
[sources.fastgen]
provider = "fastgen"
secrets = [{{ file = "fastgen.secret" }}]
ack = "sinks"
ack-timeout = "30s"
[sinks.lines]
type = "file"
dir = "events"
[[routes]]
name = "all"
types = ["*", "!it.ignored"]
to = [{{ sink = "lines", path = "{{source}}.ndjson" }}]
{more}"#
        )
    }
}

/// The process. It ends with this value, whatever happens.
pub(crate) struct Bridge {
    process: Process,
    folder: TempDir,
    address: SocketAddr,
    passing: Passing,
}

/// What a process is given beside its configuration.
#[derive(Default)]
pub(crate) struct Passing {
    /// A socket, by `LISTEN_FDS`, as systemd does.
    pub(crate) socket: Option<std::net::TcpListener>,
    /// A program and its arguments that become the bridge.
    pub(crate) by: Vec<String>,
    /// More arguments of `serve`.
    pub(crate) arguments: &'static [&'static str],
    /// More of the environment.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// One process of a bridge.
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    log: watch::Receiver<Vec<String>>,
}

impl Bridge {
    /// Starts the binary and waits until it listens.
    pub(crate) async fn start(setup: Setup) -> Self {
        Self::start_with(&setup.config()).await
    }

    /// The same with HTTPS, under this certificate. It is in `tls/cert.pem` and `tls/key.pem`; `tls` is a link.
    pub(crate) async fn start_tls(setup: Setup, certificate: &Certificate) -> Self {
        const TLS: &str = "tls = { cert = \"tls/cert.pem\", key = \"tls/key.pem\" }";
        assert_eq!(setup.server, "");
        let folder = Self::folder(&Setup { server: TLS, ..setup }.config());
        certificate.install(&folder.path().join("tls"));
        Self::start_in(folder, Passing::default()).await
    }

    /// The same with this configuration. Secrets of both providers are beside it, each in a file.
    pub(crate) async fn start_with(text: &str) -> Self {
        Self::start_passing(text, Passing::default()).await
    }

    /// The same with what is passed to it, and to all that come after it.
    pub(crate) async fn start_passing(text: &str, passing: Passing) -> Self {
        Self::start_in(Self::folder(text), passing).await
    }

    /// The same with more files beside it: their names and what is in them.
    pub(crate) async fn start_among(text: &str, files: &[(String, String)]) -> Self {
        let folder = Self::folder(text);
        for (name, content) in files {
            write_private(&folder.path().join(name), content.as_bytes());
        }
        Self::start_in(folder, Passing::default()).await
    }

    async fn start_in(folder: TempDir, passing: Passing) -> Self {
        let process = Process::launch(folder.path(), &passing);
        let mut bridge = Self { process, folder, address: ([0, 0, 0, 0], 0).into(), passing };
        bridge.listens().await;
        bridge
    }

    /// A new folder with everything a bridge needs in it: on the disk that is built on, as others forget an fsync.
    fn folder(text: &str) -> TempDir {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for provider in Provider::ALL {
            let path = folder.path().join(format!("{}.secret", provider.name()));
            write_private(&path, &[provider.secret().expose(), b"\n"].concat());
        }
        write_private(&folder.path().join(CONFIG), text.as_bytes());
        folder
    }

    /// Waits until it listens.
    pub(crate) async fn listens(&mut self) {
        let listening = self.logged("listening").await;
        self.address = listening["fields"]["address"].as_str().unwrap().parse().unwrap();
    }

    /// Ends it at once, as a power cut of this process alone would.
    pub(crate) async fn kill(&mut self) {
        // One that has ended by itself is a failure that the log explains.
        let child = &mut self.process.child;
        assert_eq!(child.try_wait().unwrap(), None, "it has ended by itself");
        timeout(PATIENCE, child.kill()).await.expect("it does not end").unwrap();
    }

    /// Starts another process in the folder of the one that has ended, and waits for nothing. Its log begins anew.
    /// Where clients are to find it again the configuration says where it listens.
    pub(crate) fn start_again(&mut self) {
        drop(self.succeed());
    }

    /// Starts another process in the folder and waits for nothing. The one before is whoever calls this one's.
    pub(crate) fn succeed(&mut self) -> Process {
        std::mem::replace(&mut self.process, Process::launch(self.folder.path(), &self.passing))
    }

    /// Writes another configuration, whole or not at all. It is read again when it is asked for, or soon.
    pub(crate) fn configure(&self, text: &str) {
        self.replace(CONFIG, text.as_bytes());
    }

    /// Puts a file in the place of one in its folder.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) {
        let new = self.path("new");
        write_private(&new, content);
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Asks it to read its configuration again, and waits until it has in so many cases altogether.
    pub(crate) async fn reloads(&mut self, text: &str, times: usize) -> String {
        self.configure(text);
        self.signal(Signal::HUP);
        let lines = self.logged_times("configuration re", times).await;
        lines[times - 1]["fields"]["message"].as_str().unwrap().to_owned()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new connection to it.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    /// Where its admin listener is.
    pub(crate) async fn admin_address(&mut self) -> SocketAddr {
        self.logged("admin listens").await["fields"]["address"].as_str().unwrap().parse().unwrap()
    }

    /// Reads a page of its admin listener.
    pub(crate) async fn admin(&mut self, path: &str) -> Response {
        let mut client = Client::connect(self.admin_address().await).await.unwrap();
        let response = client.ask(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await;
        client.ended().await;
        response
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Waits for a line of its log with this beginning of a message.
    pub(crate) async fn logged(&mut self, message: &str) -> Value {
        self.logged_times(message, 1).await.remove(0)
    }

    /// Waits until so many lines of its log have this beginning of a message, and returns those there are.
    pub(crate) async fn logged_times(&mut self, message: &str, times: usize) -> Vec<Value> {
        let enough = |lines: &Vec<String>| saying(lines, message).len() >= times;
        let found = timeout(PATIENCE, self.process.log.wait_for(enough)).await;
        let found = found.ok().and_then(|waited| waited.ok().map(|lines| saying(&lines, message)));
        found.unwrap_or_else(|| panic!("it never logged `{message}` for the {times}. time"))
    }

    /// How many lines of its log have this beginning of a message by now.
    pub(crate) fn times_logged(&self, message: &str) -> usize {
        saying(&self.process.log.borrow(), message).len()
    }

    /// All it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log.borrow().join("\n")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Lets it end in order.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.exit_code().await, 0, "{}", self.log());
    }

    /// Waits until it has ended and all it logged is here, and returns its exit code.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        self.process.exit_code().await
    }

    /// The events it gave up, each with its reason, as the command line tells them.
    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        let list = self.command(&["dead-letters", "list", "--json"]);
        let ids = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string());
        ids.map(|id| DeadLetter::parse(&self.command(&["dead-letters", "show", &id, "--json"]))).collect()
    }

    /// What a command prints that is run beside it with its configuration.
    pub(crate) fn command(&self, args: &[&str]) -> String {
        let mut command = std::process::Command::new(binary());
        command.args(args).arg("--config").arg(self.path(CONFIG));
        let output = command.current_dir(self.folder.path()).env_remove("HOOKBUS_CONFIG").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has written for a source.
    pub(crate) fn written(&self, source: &str) -> Vec<Written> {
        Written::read(&self.path(&format!("events/{source}.ndjson")))
    }
}

/// Puts its standard input where a passed socket is expected, and becomes what follows: so the socket is of the process
/// that it is meant for.
const PASS: &str = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";

impl Process {
    /// Starts a process in a folder, and collects what it logs.
    fn launch(folder: &Path, passing: &Passing) -> Self {
        let by = match (&passing.socket, &*passing.by) {
            (Some(_), _) => vec!["sh", "-c", PASS, "sh"],
            (None, by) => by.iter().map(String::as_str).collect(),
        };
        let mut command = match &*by {
            [] => Command::new(binary()),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary());
                command
            }
        };
        command.args(["serve", "--log", "info", "--log-format", "json", "--config"]).arg(folder.join(CONFIG));
        command.args(passing.arguments).envs(passing.variables.iter().cloned());
        command.current_dir(folder).env_remove("HOOKBUS_CONFIG").kill_on_drop(true);
        let passed = passing.socket.as_ref().map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
        command.stdin(passed.map_or_else(Stdio::null, Stdio::from));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (lines, log) = watch::channel(Vec::new());
        tokio::spawn(collect(child.stderr.take().unwrap(), lines));
        Self { pid: pid(&child), child, log }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits until it has ended and all it logged is here, and returns its exit code.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        // Whoever collects the log goes away at its end.
        let whole = timeout(PATIENCE, async { while self.log.changed().await.is_ok() {} }).await;
        whole.expect("its log does not end");
        status.code().unwrap_or_else(|| panic!("a signal ended it: {status}"))
    }
}

/// The number of a process that has not been waited for.
fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap()
}

/// The lines with this beginning of a message.
fn saying(lines: &[String], message: &str) -> Vec<Value> {
    // A line is read only where it can be one of them.
    let lines = lines.iter().filter(|line| line.contains(message));
    let values = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let says =
        |value: &Value| value["fields"]["message"].as_str().is_some_and(|text| text.starts_with(message));
    values.filter(says).collect()
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the log of the bridge:\n{}", self.log());
        }
    }
}

/// Keeps what the process writes to stderr.
async fn collect(stderr: ChildStderr, lines: watch::Sender<Vec<String>>) {
    let mut reader = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        lines.send_modify(|lines| lines.push(line));
    }
}

/// The binary that was built beside this test.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/it-...
    let profile = test.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("hookbus");
    assert!(
        binary.exists(),
        "there is no `hookbus` in {}: run `cargo xtask test`, which builds it first",
        profile.display()
    );
    binary
}

fn write_private(path: &Path, text: &[u8]) {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.unwrap(), text).unwrap();
}
