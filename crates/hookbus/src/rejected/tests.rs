//! What is kept, and what it takes on disk, whatever comes and whatever the disk does.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hookbus_core::Scheme;
use hookbus_journal::{File, Folder, RealFolder};
use http::request::Parts;

use super::{
    figures::Figures,
    frame,
    masks::Masks,
    reading::{Chosen, Reading},
    record::{KeptBody, Record, Value, millis},
    ring::{Bounds, Name},
    source::Request,
    writer::{Keeper, Plan},
};
use crate::config::Keep;

const DAY: Duration = Duration::from_secs(86_400);
const MIB: u64 = 1 << 20;

fn head(headers: &[(&str, &str)]) -> Parts {
    let mut request = http::Request::post("/hooks/github?token=hunter2");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

static GITHUB: LazyLock<Masks> = LazyLock::new(|| Masks::new(&Scheme::built_in("github").unwrap()));

fn request<'r>(head: &'r Parts, body: &'r Bytes) -> Request<'r> {
    let client = IpAddr::from(Ipv4Addr::LOCALHOST);
    let (reason, status) = ("signature_mismatch", 401);
    Request { head, masks: &GITHUB, body: Some(body), client, reason, status, refused: true }
}

fn record(body: &Bytes) -> (Record, Vec<u8>) {
    let head = head(&[("x-hub-signature-256", "sha256=00"), ("x-secret", "hunter2")]);
    Record::new(&request(&head, body), Keep::Whole, 64 << 10, SystemTime::now())
}

fn plan(sources: &[&str], max_size: u64) -> Plan {
    let sources = sources.iter().map(|source| Arc::new(Figures::new((*source).into()))).collect();
    Plan { bounds: Bounds::new(max_size, DAY), sources }
}

fn size(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn reading(dir: &Path) -> Reading {
    Reading::new(dir.to_owned(), DAY)
}

#[test]
fn what_was_kept_is_read_again_the_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(dir.path()).unwrap();
    let mut keeper = Keeper::new(&folder, dir.path());
    keeper.plan(plan(&["a", "b"], MIB));
    for (number, source) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
        let (mut record, body) = record(&Bytes::from(format!("body {number}")));
        record.at += number as u64;
        record.reason = if source == "a" { "one" } else { "other" }.into();
        keeper.keep(source, &record, &body);
    }
    let list = |chosen| reading(dir.path()).list(&chosen).unwrap();
    let all = list(Chosen::default());
    let sources: Vec<_> = all.iter().map(|found| &*found.source).collect();
    assert_eq!(sources, ["a", "b", "a", "b", "a"]);
    assert!(all.is_sorted_by(|one, next| one.record.at > next.record.at));
    for (at, found) in all.iter().enumerate() {
        let whole = reading(dir.path()).get(found.id).unwrap().unwrap();
        assert_eq!(whole.body, format!("body {}", 4 - at).into_bytes());
        assert_eq!(whole.record.body, KeptBody::Whole { bytes: 6 });
        assert_eq!(whole.record.query.as_deref(), Some("token=***"));
    }
    assert_eq!(list(Chosen { source: Some("b".into()), ..Chosen::default() }).len(), 2);
    assert_eq!(list(Chosen { reason: Some("one".into()), ..Chosen::default() }).len(), 3);
    assert_eq!(list(Chosen { since: Some(all[1].record.at), ..Chosen::default() }).len(), 2);
    let newest = list(Chosen { limit: Some(2), ..Chosen::default() });
    assert_eq!([newest[0].id, newest[1].id], [all[0].id, all[1].id]);
    for missing in [0, all[0].id + 3, u64::MAX] {
        assert!(reading(dir.path()).get(missing).unwrap().is_none());
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for entry in fs::read_dir(dir.path()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    // Where nothing was ever kept, there is nothing.
    assert!(reading(&dir.path().join("none")).list(&Chosen::default()).unwrap().is_empty());
}

#[test]
fn disk_is_bounded_at_every_moment_over_restarts_and_for_sources_that_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(dir.path()).unwrap();
    fs::write(dir.path().join("of-somebody-else"), "x").unwrap();
    let body = Bytes::from(vec![b'x'; 60_000]);
    let mut last = 0;
    for round in 0..20 {
        let mut keeper = Keeper::new(&folder, dir.path());
        keeper.plan(plan(&["a", "b"], MIB));
        for number in 0..round * 3 {
            let (record, body) = record(&body.slice(..body.len() - number));
            keeper.keep("a", &record, &body);
            keeper.keep("b", &record, &body[..9]);
            let of_a = fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
            let of_a = of_a.filter(|entry| entry.file_name().to_str().unwrap().starts_with("a."));
            let of_a: u64 = of_a.map(|entry| entry.metadata().unwrap().len()).sum();
            assert!(of_a <= MIB, "{of_a} in round {round}");
        }
        let newest = reading(dir.path()).list(&Chosen::default()).unwrap();
        let highest = newest.iter().map(|found| found.id).max().unwrap_or(0);
        assert!(round == 0 || highest > last, "ids only rise");
        last = highest;
    }
    assert!(size(dir.path()) > MIB * 3 / 4, "there is room, and it is used");
    assert!(fs::read_dir(dir.path()).unwrap().count() <= 2 * 64 + 1);
    // Less room, and a source less.
    let mut keeper = Keeper::new(&folder, dir.path());
    keeper.plan(plan(&["a"], MIB / 2));
    assert!(size(dir.path()) <= MIB / 2 + 1);
    assert!(reading(dir.path()).list(&Chosen::default()).unwrap().iter().all(|found| *found.source == *"a"));
    keeper.plan(plan(&[], MIB / 2));
    assert_eq!(size(dir.path()), 1, "only what is not ours is there");
}

#[test]
fn what_is_too_old_is_gone_and_a_clock_that_jumps_keeps_nothing_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RealFolder::open(dir.path()).unwrap();
    let now = millis(SystemTime::now());
    let day = millis(SystemTime::UNIX_EPOCH + DAY);
    let (mut old, body) = record(&Bytes::from_static(b"old"));
    old.at = now - day - 1;
    let bytes = [frame::BEGIN, &frame::write(&old, &body).unwrap()].concat();
    for (number, created) in [(1, now - day - 1), (2, now - day / 2), (3, now + 2 * day), (4, now + day / 2)]
    {
        let name = Name { source: "a".into(), number, created };
        fs::write(dir.path().join(name.text()), &bytes).unwrap();
    }
    // Nobody has tidied up yet, and it counts no more all the same.
    assert!(reading(dir.path()).list(&Chosen::default()).unwrap().is_empty());
    assert!(reading(dir.path()).get(1 << 16).unwrap().is_none());
    let mut keeper = Keeper::new(&folder, dir.path());
    keeper.plan(plan(&["a"], MIB));
    let left = folder.names().unwrap();
    let mut left: Vec<_> = left.iter().map(|name| Name::parse(name).unwrap().number).collect();
    left.sort_unstable();
    assert_eq!(left, [2, 4]);
}

#[test]
fn damage_costs_what_it_hits_and_never_more_than_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = frame::BEGIN.to_vec();
    let mut ends = vec![bytes.len()];
    for number in 0..3 {
        // A body that holds what looks like a record.
        let (record, body) = record(&Bytes::from([b"x", &bytes[frame::BEGIN.len()..]].concat()));
        bytes.extend(frame::write(&Record { at: number, ..record }, &body).unwrap());
        ends.push(bytes.len());
    }
    let count = |bytes: &[u8]| frame::read(bytes).map(|(record, _)| record.at).collect::<Vec<_>>();
    assert_eq!(count(&bytes), [0, 1, 2]);
    for torn in 0..bytes.len() {
        let whole = ends.iter().filter(|end| **end <= torn).count().saturating_sub(1);
        assert_eq!(count(&bytes[..torn]).len(), whole, "torn at {torn}");
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x41;
        let before = ends.iter().filter(|end| **end <= at).count().saturating_sub(1);
        assert_eq!(count(&flipped).len(), before, "flipped at {at}");
    }
    // Files of all kinds of damage stop nobody from going on.
    let folder = RealFolder::open(dir.path()).unwrap();
    let now = millis(SystemTime::now());
    for (number, bytes) in
        [&b""[..], b"garbage", &bytes[..ends[1] + 3], &[0xff; 5000]].into_iter().enumerate()
    {
        let name = Name { source: "a".into(), number: number as u32 + 1, created: now };
        fs::write(dir.path().join(name.text()), bytes).unwrap();
    }
    fs::write(dir.path().join("a.00000001.000.rejected"), "no name of ours").unwrap();
    let mut keeper = Keeper::new(&folder, dir.path());
    keeper.plan(plan(&["a"], MIB));
    let (record, body) = record(&Bytes::from_static(b"new"));
    keeper.keep("a", &record, &body);
    let found = reading(dir.path()).list(&Chosen::default()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(reading(dir.path()).get(found[0].id).unwrap().unwrap().body, b"new");
}

#[test]
fn a_disk_that_refuses_is_counted_and_takes_no_more_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Faulty { folder: RealFolder::open(dir.path()).unwrap(), broken: Arc::default() };
    let mut keeper = Keeper::new(&folder, dir.path());
    let plan = plan(&["a"], MIB);
    let figures = Arc::clone(&plan.sources[0]);
    keeper.plan(plan);
    let (record, body) = record(&Bytes::from(vec![b'x'; 60_000]));
    for round in 0..60 {
        folder.broken.store(round % 3 == 1, Ordering::Relaxed);
        keeper.keep("a", &record, &body);
        assert!(size(dir.path()) <= MIB);
    }
    let disk = figures.not_kept_requests().find(|(why, _)| *why == "disk").unwrap().1;
    assert_eq!((figures.kept_requests(), disk), (40, 20));
    assert_eq!(figures.disk_bytes(), size(dir.path()));
    assert!(!reading(dir.path()).list(&Chosen::default()).unwrap().is_empty());
}

#[test]
fn a_record_holds_no_credential_and_no_more_than_it_may() {
    let long = "y".repeat(20 << 10);
    let head = head(&[
        ("authorization", "Bearer hunter2"),
        ("cookie", "session=hunter2"),
        ("x-gitlab-token", "hunter2"),
        ("x-hub-signature-256", "sha256=abc"),
        ("x-unknown", "hunter2"),
        ("user-agent", &long),
        ("via", &long),
    ]);
    let body = Bytes::from(vec![b'b'; 100]);
    for (keep, most, kept, left) in [
        (Keep::Whole, 100, KeptBody::Whole { bytes: 100 }, 100),
        (Keep::Whole, 99, KeptBody::Cut { bytes: 100 }, 99),
        (Keep::Heads, 100, KeptBody::Left { bytes: 100 }, 0),
    ] {
        let (record, bytes) = Record::new(&request(&head, &body), keep, most, SystemTime::now());
        assert_eq!((record.body, bytes.len()), (kept, left));
        let frame = frame::write(&record, &bytes).unwrap();
        assert!(!frame.windows(7).any(|window| window == b"hunter2"));
        let signature = ("x-hub-signature-256".to_owned(), Value::Shown(b"sha256=abc".to_vec()));
        assert!(record.headers.contains(&signature));
        assert_eq!(record.headers_left_out, 1, "32 KiB of headers");
        assert!(!format!("{record:?}").contains("abc"), "neither does its Debug show a signature");
    }
}

/// A disk that refuses to make and to write files while it is broken.
#[derive(Debug)]
struct Faulty {
    folder: RealFolder,
    broken: Arc<AtomicBool>,
}

impl Faulty {
    fn check(broken: &AtomicBool) -> io::Result<()> {
        if broken.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Folder for Faulty {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.folder.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Self::check(&self.broken)?;
        Ok(Arc::new(FaultyFile { file: self.folder.create(name)?, broken: Arc::clone(&self.broken) }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.folder.names()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Self::check(&self.broken)?;
        self.folder.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        panic!("nothing here waits for an fsync")
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn File>,
    broken: Arc<AtomicBool>,
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(full) = Faulty::check(&self.broken) {
            // Half of it is there.
            self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(full);
        }
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        panic!("nothing here waits for an fsync")
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
