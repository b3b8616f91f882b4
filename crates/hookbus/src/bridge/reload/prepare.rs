//! What may fail of a reload: nothing that runs is touched.

use std::sync::Arc;

use hookbus_core::{Address, HealthState, Router, Sink, Verifier, registry};

use super::ReloadError;
use crate::{
    admin::Admin,
    bridge::{
        opening::{open, places},
        parts::Parts,
        places::{Definition, split},
    },
    config::{self, Ack, Config, Journal, SourceConfig, redactions},
    ingress::{
        Socket,
        tls::{Tls, TlsPaths},
    },
};

/// Everything that a configuration needs, ready to be put in force. Dropped, it was never there.
pub(super) struct Prepared {
    /// Without its sinks and routes, which are below.
    pub(super) config: Box<Config>,
    pub(super) verifiers: Vec<Arc<Verifier>>,
    pub(super) router: Router,
    pub(super) sinks: Vec<Change>,
    /// Where sinks are that are in the configuration no more.
    pub(super) removed: Vec<usize>,
    /// What connections that come from now on are served by.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) socket: Option<Socket>,
    pub(super) admin: NewAdmin,
    /// Some source has another order.
    pub(super) regroup: bool,
    pub(super) problems: Vec<String>,
}

/// A sink of the configuration.
pub(super) struct Change {
    /// Its place, there already or the next one.
    pub(super) at: usize,
    pub(super) definition: Definition,
    pub(super) places: Vec<Address>,
    pub(super) what: What,
}

/// What has to be done to it.
pub(super) enum What {
    Nothing,
    /// It has no lane: it gets one.
    Begin(Arc<dyn Sink>),
    /// Its lane goes on with this one.
    Exchange(Arc<dyn Sink>),
    /// The same, but what it uses is free only when the one before is closed.
    Reopen(registry::Prepared),
}

/// What becomes of the admin listener.
pub(super) enum NewAdmin {
    Same,
    Other(Option<Admin>),
}

impl Parts {
    pub(super) async fn prepare(&self, config: Config) -> Result<Prepared, ReloadError> {
        self.check_fixed(&config)?;
        let (verifiers, problems) = self.verifiers(&config)?;
        let removed = self.removed(&config)?;
        let mut config = config;
        let (sinks, routes) = (std::mem::take(&mut config.sinks), std::mem::take(&mut config.routes));
        // By their places, which a sink keeps wherever it stands in the file.
        let mut next = self.sinks.len();
        let mut place = |name: &str| {
            let known = self.sinks.iter().position(|placed| &*placed.name == name);
            known.unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        };
        let at: Vec<_> = sinks.iter().map(|sink| place(&sink.name)).collect();
        let mut routes = routes;
        for target in routes.iter_mut().flat_map(|route| &mut route.to) {
            target.sink = at[target.sink];
        }
        let router = Router::new(config.sources.iter().map(|source| Arc::clone(&source.name)), &routes)?
            .redacting(redactions(&config.sources));
        let tls = self.tls(&config)?;
        let socket = self.socket(&config).await?;
        let admin = self.other_admin(&config).await?;
        let mut changes = Vec::new();
        for (at, sink) in at.into_iter().zip(sinks) {
            let (definition, prepared) = split(sink);
            let what = self.change_of(at, &definition, prepared, &config).await?;
            changes.push(Change { at, definition, places: places(&routes, at), what });
        }
        let orders = &self.standing.orders;
        let other_order =
            |source: &SourceConfig| orders.get(&source.name).is_some_and(|old| *old != source.order);
        let regroup = config.sources.iter().any(other_order);
        Ok(Prepared {
            config: Box::new(config),
            verifiers,
            router,
            sinks: changes,
            removed,
            tls,
            socket,
            admin,
            regroup,
            problems,
        })
    }

    /// What a running bridge cannot change.
    fn check_fixed(&self, config: &Config) -> Result<(), ReloadError> {
        let mut keys = fixed(&self.standing.journal, &config.journal);
        if self.standing.dead_letters != config.dead_letters {
            keys.push("`[dead-letters] max-size`".to_owned());
        }
        if self.journal.is_none() {
            let wants = |source: &&SourceConfig| source.ack == Ack::Journal;
            let key = |source: &SourceConfig| format!("`ack` of source `{}` to `journal`", source.name);
            keys.extend(config.sources.iter().filter(wants).map(key));
        }
        if keys.is_empty() { Ok(()) } else { Err(ReloadError::NeedsRestart(keys)) }
    }

    /// What each source is verified by, and what of it stays as it was because its secrets cannot be had.
    fn verifiers(&self, config: &Config) -> Result<(Vec<Arc<Verifier>>, Vec<String>), ReloadError> {
        let (mut verifiers, mut wrong, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let current = self.current.load();
        for source in &config.sources {
            let same = config.outline.has_same_source(&self.standing.outline, &source.name);
            match (source.resolve(&config.base), current.verifier(&source.name).filter(|_| same)) {
                (Ok(verifier), _) => verifiers.push(Arc::new(verifier)),
                (Err(problems), Some(before)) => {
                    kept.extend(
                        problems.into_iter().map(|why| format!("{why}; those before are still in use")),
                    );
                    verifiers.push(before);
                }
                (Err(problems), None) => wrong.extend(problems),
            }
        }
        if wrong.is_empty() { Ok((verifiers, kept)) } else { Err(ReloadError::Secrets(wrong)) }
    }

    /// Sinks that are to go, where they can: what waits for one that takes nothing would wait for ever.
    fn removed(&self, config: &Config) -> Result<Vec<usize>, ReloadError> {
        let pending = self.journal.as_ref().map(|journal| journal.journal.pending()).unwrap_or_default();
        let gone = |name: &str| config.sinks.iter().all(|sink| &*sink.name != name);
        let mut removed = Vec::new();
        for (at, placed) in self.sinks.iter().enumerate() {
            if !placed.configured || !gone(&placed.name) {
                continue;
            }
            let events = pending.get(at).map_or(0, |pending| pending.events);
            if events > 0 && placed.lane.health().borrow().state != HealthState::Ready {
                return Err(ReloadError::Pending { sink: Arc::clone(&placed.name), events });
            }
            removed.push(at);
        }
        Ok(removed)
    }

    /// Where it names the same files nothing is read: they are followed.
    fn tls(&self, config: &Config) -> Result<Option<Arc<Tls>>, ReloadError> {
        let files = &config.server.tls;
        if *files == self.standing.server.tls {
            return Ok(self.current.load().tls().cloned());
        }
        let followed = files.as_ref().map(|files| Tls::followed(TlsPaths::new(&config.base, files)));
        Ok(followed.transpose()?)
    }

    async fn socket(&self, config: &Config) -> Result<Option<Socket>, ReloadError> {
        let address = config.server.listen;
        if self.standing.inherited.server || address == self.standing.server.listen {
            return Ok(None);
        }
        let bound = Socket::bind(address).await;
        bound.map(Some).map_err(|source| ReloadError::Listen { address, source })
    }

    async fn other_admin(&self, config: &Config) -> Result<NewAdmin, ReloadError> {
        let listen = |admin: &Option<config::Admin>| admin.as_ref().map(|admin| admin.listen);
        if listen(&config.admin) == listen(&self.standing.admin) {
            return Ok(NewAdmin::Same);
        }
        let Some(address) = listen(&config.admin) else { return Ok(NewAdmin::Other(None)) };
        if self.standing.inherited.admin && self.admin.is_some() {
            return Ok(NewAdmin::Same);
        }
        let started = Admin::start(address, Arc::clone(&self.status), &self.metrics).await;
        let started = started.map_err(|source| ReloadError::Listen { address, source })?;
        Ok(NewAdmin::Other(Some(started)))
    }

    async fn change_of(
        &self,
        at: usize,
        definition: &Definition,
        prepared: registry::Prepared,
        config: &Config,
    ) -> Result<What, ReloadError> {
        let Definition { name, sink_type, .. } = definition;
        let Some(placed) = self.sinks.get(at) else {
            return Ok(What::Begin(open(name, &config.base, prepared).await?));
        };
        if placed.sink_type != *sink_type {
            let (was, is) = (placed.sink_type, *sink_type);
            return Err(ReloadError::OtherType { sink: Arc::clone(name), was, is });
        }
        let same = config.outline.has_same_sink(&self.standing.outline, name);
        if placed.running.is_none() {
            return Ok(What::Begin(open(name, &config.base, prepared).await?));
        }
        if placed.configured && same && !placed.broken {
            return Ok(What::Nothing);
        }
        // Asked here as well as at its turn, because only a sink that is told apart from the one before can be opened beside
        // it.
        if placed.claims.is_some() && placed.claims == definition.claims {
            return Ok(What::Reopen(prepared));
        }
        Ok(What::Exchange(open(name, &config.base, prepared).await?))
    }
}

/// The keys of `[journal]` that differ.
fn fixed(old: &Journal, new: &Journal) -> Vec<String> {
    let differs = [
        ("dir", old.dir != new.dir),
        ("max-size", old.max_size != new.max_size),
        ("retention", old.retention != new.retention),
        ("segment-size", old.segment_size != new.segment_size),
        ("dedup", old.dedup != new.dedup),
    ];
    let named = differs.into_iter().filter(|(_, differs)| *differs);
    named.map(|(key, _)| format!("`[journal] {key}`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_restart_changes_is_named() {
        let old = Journal::default();
        let new =
            Journal { dir: "elsewhere".into(), segment_size: "1MiB".parse().unwrap(), ..Journal::default() };
        assert_eq!(fixed(&old, &new), ["`[journal] dir`", "`[journal] segment-size`"]);
        assert!(fixed(&old, &old).is_empty());
    }
}
