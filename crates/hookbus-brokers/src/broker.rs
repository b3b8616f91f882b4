//! A running broker that belongs to this process.

use std::{
    ops::Deref,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    Contact, Error, Kind, Options, Result,
    folders::{self, Scratch},
    kafka,
    process::{Launch, Lifetime, Process, tail},
    rabbitmq, redis,
};

/// How long a broker may take to end in an orderly way.
pub(crate) const STOP: Duration = Duration::from_secs(30);

/// How a broker is started: what its module makes of a folder and options.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) contact: Contact,
    /// What is run to its end before the first start.
    pub(crate) preparation: Option<Launch>,
    /// What must run beside the broker.
    pub(crate) companion: Option<Launch>,
    pub(crate) main: Launch,
    /// How long a start may take on a busy machine.
    pub(crate) patience: Duration,
}

/// A running broker of one's own: killed when dropped, and by the kernel when this process dies.
///
/// Everything blocks; in async code, start and stop it where blocking is allowed.
#[derive(Debug)]
pub struct Broker {
    plan: Plan,
    /// The broker itself first; empty while it is down.
    processes: Vec<Process>,
    lifetime: Lifetime,
    /// Removed behind the processes.
    _scratch: Option<Scratch>,
}

impl Broker {
    /// Starts a broker on free loopback ports, with its data in this folder, and waits until it answers.
    ///
    /// Data that a broker of the same kind left in the folder is there again.
    ///
    /// # Errors
    ///
    /// If its programs are missing, or it does not come up: [`Error::NotReady`] holds the end of its log.
    pub fn start(kind: Kind, folder: &Path, options: &Options) -> Result<Self> {
        Self::start_for(kind, folder, options, Lifetime::Ours, None)
    }

    /// Starts a broker in a folder below cargo's target folder that is removed when the broker is dropped.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`].
    pub fn temporary(kind: Kind, options: &Options) -> Result<Self> {
        let scratch = Scratch::new(kind)?;
        let folder = scratch.path().to_owned();
        Self::start_for(kind, &folder, options, Lifetime::Ours, Some(scratch))
    }

    /// Starts a broker that stays when this process ends.
    pub(crate) fn detached(kind: Kind, folder: &Path, options: &Options) -> Result<Contact> {
        let mut broker = Self::start_for(kind, folder, options, Lifetime::Detached, None)?;
        let contact = broker.contact().clone();
        broker.processes.clear();
        Ok(contact)
    }

    fn start_for(
        kind: Kind,
        folder: &Path,
        options: &Options,
        lifetime: Lifetime,
        scratch: Option<Scratch>,
    ) -> Result<Self> {
        let folder = folders::make(folder)?;
        let mut plan = match kind {
            Kind::Redis => redis::plan(&folder, options),
            Kind::RabbitMq => rabbitmq::plan(&folder, options),
            Kind::Kafka => kafka::plan(&folder, options),
        }?;
        plan.contact.folder = Some(folder);
        if let Some(preparation) = &plan.preparation {
            preparation.run()?;
        }
        let mut broker = Self { plan, processes: Vec::new(), lifetime, _scratch: scratch };
        broker.launch()?;
        Ok(broker)
    }

    /// Where it is and how to get in; the same as long as the broker exists, but for its process.
    pub fn contact(&self) -> &Contact {
        &self.plan.contact
    }

    /// Kills it with SIGKILL, all of it, and waits until it is gone. Nothing happens if it is down.
    ///
    /// # Errors
    ///
    /// If the kernel does not end it within half a minute.
    pub fn kill(&mut self) -> Result<()> {
        while let Some(process) = self.processes.first_mut() {
            process.kill()?;
            self.processes.remove(0);
        }
        self.plan.contact.pids.clear();
        Ok(())
    }

    /// Starts it again, with the same ports and data, and waits until it answers. It is killed first if it runs.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.launch()
    }

    /// Stops it in its tracks with SIGSTOP: connections stay, new ones are even accepted, and nothing answers.
    ///
    /// # Errors
    ///
    /// If it is down.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Broker::pause`].
    ///
    /// # Errors
    ///
    /// If it is down.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it in an orderly way, with SIGTERM; if that takes longer than half a minute, with SIGKILL.
    ///
    /// # Errors
    ///
    /// As [`Broker::kill`].
    pub fn stop(&mut self) -> Result<()> {
        if let Some(main) = self.processes.first_mut() {
            main.end(Signal::TERM, STOP)?;
        }
        self.kill()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let main = self.processes.first();
        main.ok_or_else(|| Error::Invalid(format!("{} is down", self.kind())))?.signal(signal)
    }

    fn launch(&mut self) -> Result<()> {
        // The companion first, but it stands behind the broker in the list: it is killed last.
        for launch in self.plan.companion.iter().chain([&self.plan.main]) {
            self.processes.insert(0, Process::start(launch, self.lifetime)?);
        }
        self.plan.contact.pids = self.processes.iter().map(Process::pid).collect();
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        /// The pause between two questions.
        const PAUSE: Duration = Duration::from_millis(25);
        let deadline = Instant::now() + self.plan.patience;
        loop {
            let Err(answer) = self.plan.contact.answers() else { return Ok(()) };
            let ended = self.processes[0].wait(PAUSE)?;
            let why = match (ended, Instant::now() < deadline) {
                (false, true) => continue,
                (true, _) => "ended before it answered".to_owned(),
                (false, false) => format!("does not answer within {:?}: {answer}", self.plan.patience),
            };
            return Err(Error::NotReady { kind: self.kind(), why, log: tail(&self.plan.main.log) });
        }
    }
}

/// A broker is its contact, and a process: whoever may ask a contact may ask a broker.
impl Deref for Broker {
    type Target = Contact;

    fn deref(&self) -> &Contact {
        self.contact()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // What the kernel does not end now it ends with this process.
        let _ = self.kill();
    }
}
