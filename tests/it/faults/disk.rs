//! The disk of the journal fills up or becomes read-only under load, and is put right: what was answered 200 arrives,
//! everybody else hears 503, and nobody has to restart anything.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hookbus_brokers::{Kind, free_address};
use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{
    account::{Account, Reading},
    crowd::{Broken, Crowd, Habits, Insists, Sent},
    stage::{Stage, durable},
};
use crate::support::{
    Ack, Bridge, PATIENCE, Written,
    bus::{Arrived, Mark},
    in_company, number_of, say, skip,
};

/// Room on the disk, in MiB.
const ROOM: u64 = 64;
/// Requests answered 200 before the disk is full and after each time, and 503 that show that it is.
const ACCEPTED: u64 = 200;
const REFUSED: u64 = 30;

/// A small file system of one's own; unmounted when dropped.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one; nothing, where we may not.
    fn mount() -> Option<Self> {
        if !geteuid().is_root() {
            skip("faults::disk", "root, to mount a small file system");
            return None;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let size = format!("size={ROOM}m,mode=0700");
        let disk = Self { folder };
        assert!(
            command("mount", &["-t", "tmpfs", "-o", &size, "hookbus-tests"], disk.path()),
            "no tmpfs here"
        );
        Some(disk)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn foreign(&self) -> PathBuf {
        self.path().join("somebody-elses")
    }

    /// Writes a file until there is no room.
    fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.foreign()).unwrap();
        // At the end byte by byte: no corner is left.
        for piece in [1 << 20, 4096, 1] {
            let piece = vec![b'x'; piece];
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(full) if full.kind() == ErrorKind::StorageFull => break,
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }

    /// Gives the room back.
    fn free(&self) {
        fs::remove_file(self.foreign()).unwrap();
    }

    /// Mounts it again with this option, `ro` or `rw`; says whether that could be: it cannot be read-only while
    /// somebody has a file open to write.
    fn remount(&self, how: &str) -> bool {
        command("mount", &["-o", &format!("remount,{how}")], self.path())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily where somebody still has a file open: it is away when that is closed.
        if !command("umount", &[], self.path()) {
            command("umount", &["--lazy"], self.path());
        }
    }
}

fn command(program: &str, arguments: &[&str], folder: &Path) -> bool {
    let output = Command::new(program).args(arguments).arg(folder).output().unwrap();
    if !output.status.success() {
        say(&format!("disk: {program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    output.status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_and_a_read_only_disk_lose_nothing_and_heal() {
    if !Ack::is_journal("faults::disk::full") {
        return;
    }
    let _in_company = in_company().await;
    let Some(disk) = SmallDisk::mount() else { return };
    let Some(mut stage) = Stage::start(Kind::Redis, durable(Kind::Redis)).await else { return };
    // Down, so that what the journal holds grows.
    stage.kill().await;
    let listen = free_address().unwrap();
    let journal =
        format!("dir = \"{}/journal\"\nmax-size = \"1GiB\"\nsegment-size = \"1MiB\"", disk.path().display());
    let routes = [("good", "bus", stage.to("good"))];
    let config = config(&listen.to_string(), &journal, &stage.sink("bus", ""), &routes);
    let mut bridge = Bridge::start_with(&config).await;
    let habits =
        Habits { subjects: 3, insists: Insists::Everybody, broken: Broken::Expected, ..Habits::default() };
    let crowd = Crowd::of(habits, listen, "good");
    crowd.accepted(ACCEPTED).await;
    for _ in 0..number_of("HOOKBUS_TEST_ROUNDS", 2) {
        let before = crowd.count_refused();
        let late = Instant::now() + PATIENCE;
        disk.fill();
        while crowd.count_refused() < before + REFUSED {
            assert!(Instant::now() < late, "a full disk is not noticed");
            sleep(Duration::from_millis(20)).await;
            // What the journal gave up in between.
            disk.fill();
        }
        disk.free();
        crowd.accepted(ACCEPTED).await;
    }
    let live = disk.remount("ro");
    if live {
        crowd.refused(REFUSED).await;
        assert!(disk.remount("rw"));
    } else {
        bridge.kill().await;
        assert!(disk.remount("ro"));
        bridge.start_again();
        assert_ne!(bridge.exit_code().await, 0, "it cannot keep anything");
        assert!(disk.remount("rw"));
        bridge.start_again();
        bridge.listens().await;
    }
    crowd.accepted(ACCEPTED).await;

    let sent = crowd.disperse().await;
    stage.restart().await;
    let account = settle(&sent, async |reading| {
        reading.enter_all(&stage, "good", &mut Mark::default()).await;
    })
    .await;
    bridge.stop().await;
    let how = if live { "while it ran" } else { "between two runs" };
    account.show(&format!("disk full, and read-only {how}"), &[]);
    assert_eq!((account.given_up, account.duplicates), (0, 0), "{account}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_sink_with_little_traffic_costs_the_others_no_room() {
    if !Ack::is_journal("faults::disk::low_traffic") {
        return;
    }
    /// Bytes of an event of the others.
    const LARGE: usize = 60_000;
    /// How many of them may wait for their sink: half of its quota.
    const AHEAD: u64 = 32;
    /// Events for the dead sink: a fraction of its quota.
    const LOW: u64 = 500;
    let _in_company = in_company().await;
    let Some(mut stage) = Stage::start(Kind::Redis, durable(Kind::Redis)).await else { return };
    stage.kill().await;
    let mib = number_of("HOOKBUS_TEST_MIB", 8);
    let journal = format!("max-size = \"{mib}MiB\"\nsegment-size = \"1MiB\"");
    let sinks = stage.sink("bus", "") + "[sinks.lines]\ntype = \"file\"\ndir = \"events\"\n";
    let routes =
        [("low", "bus", stage.to("low")), ("high", "lines", "path = \"{source}.ndjson\"".to_owned())];
    let mut bridge = Bridge::start_with(&config("127.0.0.1:0", &journal, &sinks, &routes)).await;
    let all = Habits { insists: Insists::Everybody, ..Habits::default() };
    let low = Habits { clients: 2, pace: Duration::from_millis(50), ..all };
    let high = Habits { clients: 8, pace: Duration::from_millis(80), padding: LARGE, ..all };
    let (low, high) = (Crowd::of(low, bridge.address(), "low"), Crowd::of(high, bridge.address(), "high"));
    low.allow(LOW);
    // Ten times of what the journal may hold, no faster than their sink takes it: it has a quota too.
    let mut written = Lines { path: bridge.path("events/high.ndjson"), file: None, lines: 0 };
    let (enough, late) = (10 * (mib << 20) / LARGE as u64, Instant::now() + 10 * PATIENCE);
    while high.count_accepted() < enough {
        assert!(Instant::now() < late, "{} of {enough} accepted", high.count_accepted());
        written.look();
        high.allow(written.lines + AHEAD);
        sleep(Duration::from_millis(20)).await;
    }
    let refused = (low.count_refused(), high.count_refused());
    let (low, high) = (low.disperse().await, high.disperse().await);
    let high = settle(&high, async |reading| {
        for written in bridge.written("high") {
            reading.enter(&arrived(written)).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
    })
    .await;
    high.show(&format!("{enough} events of {LARGE} bytes through a journal of {mib} MiB"), &[]);
    stage.restart().await;
    let low = settle(&low, async |reading| {
        reading.enter_all(&stage, "low", &mut Mark::default()).await;
    })
    .await;
    bridge.stop().await;
    low.show("beside a dead sink, which is back", &[]);
    assert_eq!(refused, (0, 0), "nobody is refused for what a dead sink holds");
    assert_eq!((low.given_up, low.duplicates, high.given_up, high.duplicates), (0, 0, 0, 0));
}

/// How many lines a file has that grows.
struct Lines {
    path: PathBuf,
    file: Option<File>,
    lines: u64,
}

impl Lines {
    fn look(&mut self) {
        self.file = self.file.take().or_else(|| File::open(&self.path).ok());
        let mut more = Vec::new();
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut more).unwrap();
        }
        self.lines += more.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

/// A configuration with a route for each source, of this name, to a sink and its address.
fn config(listen: &str, journal: &str, sinks: &str, routes: &[(&str, &str, String)]) -> String {
    let mut config = format!(
        r#"[server]
listen = "{listen}"
limits = {{ connections-per-address = 1024 }}
[journal]
{journal}
{sinks}
"#
    );
    for (source, sink, to) in routes {
        config += &format!(
            r#"[sources.{source}]
provider = "fastpix"
secrets = [{{ file = "fastpix.secret" }}]
ack = "{}"
[[routes]]
name = "{source}"
sources = ["{source}"]
to = [{{ sink = "{sink}", {to} }}]
"#,
            Ack::usual()
        );
    }
    config
}

/// Lets `read` read everything from the beginning until nothing is missing; the account of it.
async fn settle(sent: &[Sent], read: impl AsyncFn(&mut Reading<'_>)) -> Account {
    let late = Instant::now() + PATIENCE;
    loop {
        let mut reading = Reading::of(sent);
        read(&mut reading).await;
        let missing = reading.missing();
        if missing == 0 {
            return reading.close(sent).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        assert!(Instant::now() < late, "{missing} of {} events never arrive", sent.len());
        sleep(Duration::from_millis(100)).await;
    }
}

/// A line of the file sink as an event of a bus.
fn arrived(written: Written) -> Arrived {
    let Written { id, event_type, subject, body, proof } = written;
    let mut attributes = [("id".to_owned(), id), ("type".to_owned(), event_type)].to_vec();
    attributes.extend(subject.map(|subject| ("subject".to_owned(), subject)));
    Arrived {
        attributes: attributes.into_iter().collect(),
        proof: serde_json::from_value(proof).unwrap(),
        body,
        at: None,
    }
}

#[test]
fn a_small_disk_is_full_read_only_and_back() {
    let Some(disk) = SmallDisk::mount() else { return };
    let ours = disk.path().join("ours");
    let write = |bytes: &[u8]| fs::write(&ours, bytes);
    write(b"before").unwrap();
    disk.fill();
    assert_eq!(write(&[0; 9000]).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.free();
    write(b"behind").unwrap();
    let open = File::create(&ours).unwrap();
    assert!(!disk.remount("ro"), "a file is open");
    drop(open);
    assert!(disk.remount("ro"));
    assert_eq!(write(b"behind").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert!(disk.remount("rw"));
    write(b"behind").unwrap();
    let path = disk.path().to_owned();
    drop(disk);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!path.exists() && !mounts.contains(path.to_str().unwrap()), "{mounts}");
}
