//! From a configuration to a bridge that listens.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use hookbus_core::Router;
use tokio::time::{Instant, sleep};

use crate::{
    accept::{Acceptor, ByLanes},
    admin::{Admin, Certificate, Configured, Status},
    config::{Ack, Config, redactions},
    control::{ByJournal, Redrive, Today},
    dead_letters::{LetterBox, Unavailable},
    ingress::{
        Carried, Current, Listener, Socket,
        tls::{Tls, TlsPaths},
    },
    journal::{Opening, RunningJournal},
    lane::Groups,
    metrics::Metrics,
    rejected::Rejected,
};

use super::{
    LANE_GRACE, StartError,
    opening::{open, places},
    parts::{Answering, Inherited, Marks, Parts, Standing, configured, orders},
    places::{Definition, LaneParts, Placed, split, stop},
};

/// How often it is tried again to take over from the process before.
const AGAIN: Duration = Duration::from_millis(50);

/// How a bridge starts, beside its configuration.
#[derive(Debug, Default)]
pub struct Start {
    server: Option<TcpListener>,
    admin: Option<TcpListener>,
    wait: Duration,
}

impl Start {
    /// Listens at this socket instead of binding `[server] listen`. Whoever passed it keeps it open: when the bridge
    /// stops, what waits in it is left to the one that comes after.
    #[must_use]
    pub fn server(self, socket: TcpListener) -> Self {
        Self { server: Some(socket), ..self }
    }

    /// The same for `[admin] listen`.
    #[must_use]
    pub fn admin(self, socket: TcpListener) -> Self {
        Self { admin: Some(socket), ..self }
    }

    /// How long another process may take to let go of the data folder and of addresses. Default: no time.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Starts everything; whatever was opened by an error is closed again.
    pub(super) async fn run(self, config: Config) -> Result<(Parts, Listener, SocketAddr), StartError> {
        let Self { server: server_socket, admin: admin_socket, wait } = self;
        let until = Instant::now() + wait;
        let letters = Arc::new(LetterBox::new(&config));
        let opening = Opening::new(&config);
        let rejected = Rejected::new(&config);
        let mut marks = Marks::default();
        marks.mark(&config.sources, &config.base);
        let inherited = Inherited { server: server_socket.is_some(), admin: admin_socket.is_some() };
        let standing = Standing::of(&config, inherited, marks);
        let Config { base, server, admin, sources, sinks, routes, .. } = config;
        let (mut verifiers, mut wrong) = (Vec::new(), Vec::new());
        for source in &sources {
            match source.resolve(&base) {
                Ok(verifier) => verifiers.push(Arc::new(verifier)),
                Err(secrets) => wrong.extend(secrets),
            }
        }
        if !wrong.is_empty() {
            return Err(StartError::Secrets(wrong));
        }
        let tls = server.tls.as_ref().map(|files| Tls::followed(TlsPaths::new(&base, files))).transpose()?;
        let router = Router::new(sources.iter().map(|source| Arc::clone(&source.name)), &routes)?
            .redacting(redactions(&sources));
        let groups = Arc::new(Groups::new(orders(&sources)));
        let sinks: Vec<_> = sinks.into_iter().map(split).collect();
        let definitions: Vec<Definition> = sinks.iter().map(|(definition, _)| definition.clone()).collect();
        let Configured { sources: source_status, sinks: sink_status } = configured(&sources, &definitions);
        let status = Arc::new(Status::new(source_status, sink_status));
        let metrics = Metrics::new(Arc::clone(&status));
        // First, so that it tells the truth while the rest starts.
        let admin = match admin.map(|admin| admin.listen) {
            Some(address) => {
                let bound = bind(address, admin_socket, until).await;
                let started = bound
                    .and_then(|socket| Admin::serve(socket.into_listener(), Arc::clone(&status), &metrics));
                Some(started.map_err(|source| StartError::Listen { address, source })?)
            }
            None => {
                if inherited.admin {
                    tracing::warn!(
                        "a socket named `admin` was passed, but there is no section [admin]: nobody serves it"
                    );
                }
                None
            }
        };
        status.follow_rejected(&rejected);
        status.follow_letters(letters.state());
        let journal =
            journal(&letters, opening, sources.iter().any(|s| s.ack == Ack::Journal), &metrics, until)
                .await?;
        letters.keep_rejected(&rejected).await?;
        if let Some(journal) = &journal {
            status.follow_journal(journal.state());
            letters.follow(&journal.journal);
        }
        let mut placed = Vec::new();
        for (at, (definition, prepared)) in sinks.into_iter().enumerate() {
            match open(&definition.name, &base, prepared).await {
                Ok(sink) => {
                    let metrics = metrics.sink(&definition.name);
                    let (journal, groups, letters) = (journal.as_ref(), &groups, &letters);
                    let parts =
                        LaneParts { at, places: places(&routes, at), metrics, journal, groups, letters };
                    let sink = Placed::start(definition, sink, parts);
                    status.configured().sinks[at].follow(sink.lane.health());
                    placed.push(sink);
                }
                Err(error) => return Err(undo(&letters, &rejected, placed, journal, error.into()).await),
            }
        }
        let names = definitions.iter().map(|sink| Arc::clone(&sink.name)).collect();
        let today = Arc::new(Today { sinks: names, router });
        let lanes = placed.iter().map(|sink| Arc::clone(&sink.lane)).collect();
        let appends = journal.as_ref().map(|journal| journal.journal.clone());
        let acceptor = Acceptor::new(
            Arc::clone(&today),
            lanes,
            Arc::clone(&groups),
            Arc::clone(&letters),
            appends.clone(),
        );
        let when_full = definitions.iter().map(|sink| sink.share.when_full).collect();
        let acceptor = Arc::new(ArcSwap::from_pointee(acceptor.when_full(when_full)));
        let today = Arc::new(ArcSwap::new(today));
        let redrive: Arc<dyn Redrive> = match appends {
            Some(journal) => Arc::new(ByJournal { journal, today: Arc::clone(&today) }),
            None => Arc::new(ByLanes(Arc::downgrade(&acceptor))),
        };
        letters.take_commands(redrive);
        let carried = Carried::new(&server.limits);
        let ingress = Answering {
            sources: &sources,
            verifiers,
            server: &server,
            acceptor: acceptor.load_full(),
            metrics: &metrics,
            rejected: &rejected,
            carried: &carried,
            tls,
        }
        .ingress();
        let current = Arc::new(Current::from_pointee(ingress));
        let serving = Arc::downgrade(&current);
        status.certificate.from(move || {
            let current = serving.upgrade()?;
            let ingress = current.load();
            let keys = ingress.tls()?.keys();
            Some(Certificate { until: keys.validity().until, refused: keys.refused() })
        });
        let bound = bind(server.listen, server_socket, until).await;
        let listening = bound.and_then(|socket| socket.address().map(|address| (socket, address)));
        let (socket, address) = match listening {
            Ok(listening) => listening,
            Err(source) => {
                let error = StartError::Listen { address: server.listen, source };
                return Err(undo(&letters, &rejected, placed, journal, error).await);
            }
        };
        let (listener, rebind) = Listener::new(socket, Arc::clone(&current));
        status.listening();
        let sinks = placed;
        let parts = Parts {
            letters,
            journal,
            rejected,
            sinks,
            groups,
            carried,
            metrics,
            status,
            today,
            acceptor,
            current,
            rebind,
            admin,
            standing,
        };
        Ok((parts, listener, address))
    }
}

/// The journal, where one is wanted or there is one already.
async fn journal(
    letters: &LetterBox,
    opening: Opening,
    wanted: bool,
    metrics: &Metrics,
    until: Instant,
) -> Result<Option<RunningJournal>, StartError> {
    let in_use =
        |error: &Unavailable| matches!(error, Unavailable::Folder(hookbus_journal::OpenError::InUse(_)));
    patiently(until, in_use, async || letters.open_existing().await).await?;
    let data = patiently(until, in_use, async || letters.data_for_journal(wanted).await).await?;
    match data {
        Some(data) => Ok(Some(opening.open(data, metrics).await?)),
        None => Ok(None),
    }
}

/// A socket that was passed, or one that is bound now.
async fn bind(address: SocketAddr, passed: Option<TcpListener>, until: Instant) -> io::Result<Socket> {
    let taken = |error: &io::Error| error.kind() == ErrorKind::AddrInUse;
    match passed {
        Some(socket) => Socket::inherited(socket),
        None => patiently(until, taken, async || Socket::bind(address).await).await,
    }
}

/// Tries until then, as long as another process has it.
async fn patiently<T, E>(
    until: Instant,
    is_taken: impl Fn(&E) -> bool,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut told = false;
    loop {
        match attempt().await {
            Err(error) if is_taken(&error) && Instant::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!("waiting for another process to let go of the data folder or an address");
                }
                sleep(AGAIN).await;
            }
            done => return done,
        }
    }
}

/// Closes what was opened.
async fn undo(
    letters: &LetterBox,
    rejected: &Rejected,
    placed: Vec<Placed>,
    journal: Option<RunningJournal>,
    error: StartError,
) -> StartError {
    letters.stop().await;
    rejected.stop().await;
    stop(placed, Instant::now() + LANE_GRACE).await;
    if let Some(journal) = journal {
        journal.stop().await;
    }
    error
}
