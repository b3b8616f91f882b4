//! The one thread that writes: what it is handed, in files that it alone changes. It never waits for an fsync.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use hookbus_journal::{Folder, RealFolder};
use tokio::{sync::oneshot, time::timeout};

use super::{
    figures::{Figures, NotKept},
    frame, lock,
    record::{Record, millis},
    ring::{Bounds, Name, Ring},
};

/// Requests that may wait for the disk.
const WAITING: usize = 64;
/// How often what is too old is looked for, at least.
const TICK: Duration = Duration::from_secs(30);
/// How long what waits may take to be written when the bridge ends.
const GRACE: Duration = Duration::from_secs(2);
/// How often a disk that refuses is spoken of.
const TELL: Duration = Duration::from_secs(60);

/// The thread, from outside.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Queue,
    ended: oneshot::Receiver<()>,
}

/// The way to it.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    jobs: SyncSender<Job>,
    orders: Arc<Orders>,
}

/// What cannot wait in line.
#[derive(Debug, Default)]
struct Orders {
    plan: Mutex<Option<Plan>>,
    stop: AtomicBool,
}

/// Which sources there are, and what each may take.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) bounds: Bounds,
    pub(super) sources: Vec<Arc<Figures>>,
}

#[derive(Debug)]
enum Job {
    Keep {
        source: Arc<str>,
        record: Box<Record>,
        body: Vec<u8>,
    },
    /// There are orders.
    Look,
}

impl Writer {
    /// Starts the thread on this folder, which is made where it is not there.
    pub(super) fn start(dir: &Path) -> io::Result<Self> {
        let folder = RealFolder::open(dir)?;
        let (jobs, work) = sync_channel(WAITING);
        let (end, ended) = oneshot::channel();
        let queue = Queue { jobs, orders: Arc::default() };
        let orders = Arc::clone(&queue.orders);
        thread::Builder::new().name("rejected".into()).spawn(move || {
            run(&folder, &work, &orders);
            let _ = end.send(());
        })?;
        Ok(Self { queue, ended })
    }

    /// The way to it.
    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// Writes what waits, and ends. A disk that hangs is not waited for.
    pub(super) async fn stop(self) {
        self.queue.orders.stop.store(true, Ordering::Release);
        self.queue.look();
        let _ = timeout(GRACE, self.ended).await;
    }
}

impl Queue {
    /// The way to a thread that never comes to its work, with so many places on it.
    #[cfg(test)]
    pub(super) fn stuck(places: usize) -> (Self, impl Sized) {
        let (jobs, work) = sync_channel(places);
        (Self { jobs, orders: Arc::default() }, work)
    }

    /// Hands over a request; whether there was room. Never waits.
    pub(super) fn keep(&self, source: &Arc<str>, record: Record, body: Vec<u8>) -> bool {
        let job = Job::Keep { source: Arc::clone(source), record: Box::new(record), body };
        self.jobs.try_send(job).is_ok()
    }

    /// Says which sources there are from now on.
    pub(super) fn plan(&self, plan: Plan) {
        *lock(&self.orders.plan) = Some(plan);
        self.look();
    }

    /// Where there is no room, it is at work, and looks before it waits again.
    fn look(&self) {
        let _ = self.jobs.try_send(Job::Look);
    }
}

fn run(folder: &RealFolder, work: &Receiver<Job>, orders: &Orders) {
    let mut keeper = Keeper::new(folder, folder.path());
    loop {
        let plan = lock(&orders.plan).take();
        if let Some(plan) = plan {
            keeper.plan(plan);
        }
        // Looked at before the wait: whoever sets it sends a job behind it.
        let stop = orders.stop.load(Ordering::Acquire);
        let job = match stop {
            true => work.try_recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => work.recv_timeout(keeper.tick()),
        };
        match job {
            Ok(Job::Keep { source, record, body }) => keeper.keep(&source, &record, &body),
            Ok(Job::Look) | Err(RecvTimeoutError::Timeout) => keeper.expire(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The rings of all sources.
pub(super) struct Keeper<'f> {
    folder: &'f dyn Folder,
    path: &'f Path,
    bounds: Bounds,
    rings: BTreeMap<Arc<str>, (Ring, Arc<Figures>)>,
    next: u32,
    told: Option<Instant>,
}

impl<'f> Keeper<'f> {
    pub(super) fn new(folder: &'f dyn Folder, path: &'f Path) -> Self {
        let bounds = Bounds::new(0, Duration::ZERO);
        Self { folder, path, bounds, rings: BTreeMap::new(), next: 1, told: None }
    }

    /// Goes on with these sources. The files of all others are removed, and so is what there is too much of.
    pub(super) fn plan(&mut self, plan: Plan) {
        self.bounds = plan.bounds;
        let mut before = std::mem::take(&mut self.rings);
        let mut fresh = Vec::new();
        for figures in plan.sources {
            let source = Arc::clone(&figures.source);
            let ring = before.remove(&source).map_or_else(
                || {
                    fresh.push(Arc::clone(&source));
                    Ring::new(Arc::clone(&source))
                },
                |(ring, _)| ring,
            );
            self.rings.insert(source, (ring, figures));
        }
        if let Err(error) = self.survey(&fresh) {
            self.tell(&error);
        }
        let (folder, bounds) = (self.folder, self.bounds);
        let made = self.rings.values_mut().try_for_each(|(ring, figures)| {
            let made = ring.make_room(folder, &bounds, 0);
            figures.on_disk(ring.bytes());
            made
        });
        if let Err(error) = made {
            self.tell(&error);
        }
        self.expire();
    }

    /// Takes in the files there are of new sources, and removes those of no source.
    fn survey(&mut self, fresh: &[Arc<str>]) -> io::Result<()> {
        for text in self.folder.names()? {
            let Some(name) = Name::parse(&text) else { continue };
            self.next = self.next.max(name.number.saturating_add(1));
            match self.rings.get_mut(&name.source) {
                // A length that cannot be told counts as more than there may be: it goes.
                Some((ring, _)) if fresh.contains(&name.source) => {
                    let bytes =
                        std::fs::metadata(self.path.join(&text)).map_or(u64::MAX >> 16, |it| it.len());
                    ring.found(name, bytes);
                }
                Some(_) => {}
                None => self.folder.remove(&text)?,
            }
        }
        Ok(())
    }

    /// Writes a request.
    pub(super) fn keep(&mut self, source: &str, record: &Record, body: &[u8]) {
        let Some((ring, figures)) = self.rings.get_mut(source) else { return };
        let Some(frame) = frame::write(record, body) else { return figures.not_kept(NotKept::Disk) };
        let now = millis(SystemTime::now());
        let written = ring.write(self.folder, &self.bounds, &mut self.next, now, &frame);
        figures.on_disk(ring.bytes());
        match written {
            Ok(bytes) => figures.kept(bytes),
            Err(error) => {
                figures.not_kept(NotKept::Disk);
                self.tell(&error);
            }
        }
    }

    /// Removes what is too old.
    fn expire(&mut self) {
        let now = millis(SystemTime::now());
        let (folder, bounds) = (self.folder, self.bounds);
        let expired = self.rings.values_mut().try_for_each(|(ring, figures)| {
            let expired = ring.expire(folder, &bounds, now);
            figures.on_disk(ring.bytes());
            expired
        });
        if let Err(error) = expired {
            self.tell(&error);
        }
    }

    fn tick(&self) -> Duration {
        self.bounds.span().clamp(Duration::from_millis(50), TICK)
    }

    fn tell(&mut self, error: &io::Error) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            tracing::warn!(%error, "rejected requests are not kept: the disk refuses");
        }
    }
}
