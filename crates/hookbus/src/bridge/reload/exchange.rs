//! What cannot fail of a reload: everything that was prepared is put in force.

use std::{path::Path, sync::Arc, time::Duration};

use hookbus_core::Verifier;
use hookbus_journal::Journal;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, interval},
};

use super::{
    Applied,
    prepare::{Change, NewAdmin, Prepared, What},
};
use crate::{
    bridge::{
        LANE_GRACE,
        opening::open,
        parts::{Answering, Parts, Standing, configured, orders},
        places::{Definition, LaneParts, Placed},
    },
    config::{Config, WhenFull},
    control::Today,
    ingress::{Ingress, tls::Tls},
    lane::{Next, NotOpen, Settled},
};

/// How often it is looked at whether a sink that was taken out has everything.
const LOOK: Duration = Duration::from_millis(100);

/// A sink that was taken out of the configuration and has everything that was for it.
#[derive(Debug)]
pub(super) struct Left {
    at: usize,
    removals: u64,
}

impl Parts {
    pub(super) async fn exchange(&mut self, prepared: Prepared, leaving: &mut JoinSet<Left>) -> Applied {
        let Prepared { config, verifiers, router, sinks, removed, tls, socket, admin, regroup, problems } =
            prepared;
        let changes = config.outline.since(&self.standing.outline);
        let mut marks = std::mem::take(&mut self.standing.secrets);
        let secrets = marks.mark(&config.sources, &config.base);
        let mut applied = Applied { changes, secrets, problems };
        let definitions: Vec<_> = sinks.iter().map(|change| (change.at, change.definition.clone())).collect();
        // Before any request can bring an event for a new one.
        for (_, definition) in &definitions {
            let metrics = self.metrics.sink(&definition.name);
            if let Some(journal) = &self.journal {
                journal.add(&definition.name, definition.share, &metrics);
            }
        }
        // Side by side, so that a slow one costs the others no time.
        let settling: Vec<_> = sinks.iter().map(|change| self.settle(change, regroup)).collect();
        let mut going_on = Vec::new();
        for (change, settling) in sinks.into_iter().zip(settling) {
            let settled = match settling {
                Some(settling) => settling.await.ok().flatten(),
                None => None,
            };
            let next = self.change_sink(change, &config.base, &mut applied.problems).await;
            going_on.extend(settled.map(|settled| (settled, next)));
        }
        for at in &removed {
            self.sinks[*at].configured = false;
            self.sinks[*at].removals += 1;
        }
        self.groups.set(orders(&config.sources));
        let before =
            self.answer_by(&config, &definitions, (verifiers, tls), Today { sinks: self.names(), router });
        for (settled, next) in going_on {
            settled.go_on(Next { regroup: regroup.then(|| Arc::clone(&self.groups)), ..next });
        }
        if let Some(socket) = socket {
            self.rebind.listen(socket).await;
        }
        if let NewAdmin::Other(admin) = admin
            && let Some(before) = std::mem::replace(&mut self.admin, admin)
        {
            before.stop().await;
        }
        for at in removed {
            let journal = self.journal.as_ref().map(|journal| journal.journal.clone());
            let left = Left { at, removals: self.sinks[at].removals };
            leaving.spawn(left.once(before.unused(), journal));
        }
        self.standing = Standing::of(&config, self.standing.inherited, marks);
        applied
    }

    /// Lets a lane settle that is to go on with something else.
    fn settle(&self, change: &Change, regroup: bool) -> Option<JoinHandle<Option<Settled>>> {
        let close = match &change.what {
            What::Exchange(_) | What::Reopen(_) => true,
            What::Nothing if regroup => false,
            What::Nothing | What::Begin(_) => return None,
        };
        let lane = Arc::clone(&self.sinks.get(change.at)?.lane);
        let deadline = Instant::now() + LANE_GRACE;
        Some(tokio::spawn(async move { lane.settle(deadline, close).await }))
    }

    /// Puts a sink in its place. What its lane goes on with, where it settled.
    async fn change_sink(&mut self, change: Change, base: &Path, problems: &mut Vec<String>) -> Next {
        let Change { at, definition, places, what } = change;
        let name = Arc::clone(&definition.name);
        let sink = match what {
            What::Nothing => return Next::default(),
            What::Begin(sink) => {
                let metrics = self.metrics.sink(&name);
                let (journal, groups, letters) = (self.journal.as_ref(), &self.groups, &self.letters);
                let parts = LaneParts { at, places, metrics, journal, groups, letters };
                let placed = Placed::start(definition, sink, parts);
                match self.sinks.get_mut(at) {
                    Some(ended) => *ended = Placed { removals: ended.removals, ..placed },
                    None => self.sinks.push(placed),
                }
                return Next::default();
            }
            What::Exchange(sink) => Ok(sink),
            What::Reopen(prepared) => open(&name, base, prepared).await,
        };
        let placed = &mut self.sinks[at];
        placed.configured = true;
        placed.broken = sink.is_err();
        placed.claims = definition.claims;
        let sink = sink.unwrap_or_else(|error| {
            tracing::error!(sink = %name, %error, "the sink cannot be opened again; its events wait");
            problems.push(format!("sink `{name}` cannot be opened again: {}", error.kind().as_str()));
            Arc::new(NotOpen(Some(error)))
        });
        Next { sink: Some((sink, definition.publish_timeout)), places, regroup: None }
    }

    /// The names of the sinks by their places; of those that are configured.
    fn names(&self) -> Vec<Arc<str>> {
        let name = |placed: &Placed| if placed.configured { Arc::clone(&placed.name) } else { "".into() };
        self.sinks.iter().map(name).collect()
    }

    /// Requests that begin from now on are answered by this configuration. What those before are answered by.
    fn answer_by(
        &self,
        config: &Config,
        sinks: &[(usize, Definition)],
        (verifiers, tls): (Vec<Arc<Verifier>>, Option<Arc<Tls>>),
        today: Today,
    ) -> Arc<Ingress> {
        let mut when_full = vec![WhenFull::default(); self.sinks.len()];
        let status = configured(&config.sources, sinks.iter().map(|(_, definition)| definition));
        for ((at, definition), shown) in sinks.iter().zip(&status.sinks) {
            when_full[*at] = definition.share.when_full;
            shown.follow(self.sinks[*at].lane.health());
        }
        let today = Arc::new(today);
        let lanes = self.sinks.iter().map(|placed| Arc::clone(&placed.lane)).collect();
        let acceptor = Arc::new(self.acceptor.load().next(Arc::clone(&today), lanes, when_full));
        self.today.store(today);
        self.acceptor.store(Arc::clone(&acceptor));
        self.rejected.configure(config);
        let (limits, timeouts) = (&config.server.limits, &config.server.timeouts);
        self.carried.limit(limits);
        self.rebind.limit(limits, timeouts);
        let ingress = Answering {
            sources: &config.sources,
            verifiers,
            server: &config.server,
            acceptor,
            metrics: &self.metrics,
            rejected: &self.rejected,
            carried: &self.carried,
            tls,
        };
        let before = self.current.swap(Arc::new(ingress.ingress()));
        self.carried.keep(|name| config.sources.iter().any(|source| &*source.name == name));
        self.status.configure(status);
        before
    }

    /// Ends the lane of a sink that has everything.
    pub(super) async fn end_lane(&mut self, left: Left) {
        let placed = &mut self.sinks[left.at];
        if placed.configured || placed.removals != left.removals {
            return;
        }
        if let Some(running) = placed.running.take() {
            running.stop(Instant::now() + LANE_GRACE).await;
            tracing::info!(sink = %placed.name, "the sink that was taken out has everything, and is closed");
        }
    }
}

impl Left {
    /// Once nobody can bring an event for it any more, and nothing waits for it.
    async fn once(self, unused: impl Future<Output = ()>, journal: Option<Journal>) -> Self {
        unused.await;
        let waits =
            |journal: &Journal| journal.pending().get(self.at).is_some_and(|pending| pending.events > 0);
        let mut look = interval(LOOK);
        while journal.as_ref().is_some_and(waits) {
            look.tick().await;
        }
        self
    }
}
