//! What the bridge notes of one source.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::request::Parts;

use super::{
    alarm::{Alarm, Change, Standing},
    figures::{Figures, NotKept},
    lock,
    masks::Masks,
    pace::Pace,
    record::Record,
    writer::Queue,
};
use crate::config::{self, Keep, SourceConfig};

/// A request that was not accepted.
#[derive(Clone, Copy)]
pub(crate) struct Request<'r> {
    pub(crate) head: &'r Parts,
    /// What may be kept of it, by the scheme that refused it: another one may be configured by now.
    pub(crate) masks: &'r Masks,
    /// Its body, where it was read to its end.
    pub(crate) body: Option<&'r Bytes>,
    pub(crate) client: IpAddr,
    pub(crate) reason: &'static str,
    pub(crate) status: u16,
    /// It did not verify. Of all others only the head is kept.
    pub(crate) refused: bool,
}

/// The requests of one source that were not accepted.
#[derive(Debug)]
pub(crate) struct Rejections {
    figures: Arc<Figures>,
    how: Mutex<How>,
    watched: Mutex<Watched>,
}

/// How much is kept of them, and by whom.
#[derive(Debug)]
struct How {
    keep: Keep,
    body: usize,
    pace: Pace,
    queue: Option<Queue>,
}

#[derive(Debug, Default)]
struct Watched {
    alarm: Alarm,
    standing: Standing,
    after: Duration,
}

impl Rejections {
    pub(super) fn new(source: Arc<str>) -> Self {
        let how = How { keep: Keep::Counts, body: 0, pace: Pace::default(), queue: None };
        let figures = Arc::new(Figures::new(source));
        Self { figures, how: Mutex::new(how), watched: Mutex::default() }
    }

    /// Goes on as this configuration says.
    pub(super) fn configure(&self, source: &SourceConfig, settings: &config::Rejected) {
        let mut how = lock(&self.how);
        how.keep = source.rejected.unwrap_or(settings.keep);
        how.body = settings.body.as_len();
        lock(&self.watched).after = settings.alarm_after.get();
    }

    /// From now on they are kept by this writer.
    pub(super) fn keep_by(&self, queue: Queue) {
        lock(&self.how).queue = Some(queue);
    }

    /// The name of the source.
    pub(crate) fn source(&self) -> &Arc<str> {
        &self.figures.source
    }

    /// What was counted.
    pub(crate) fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// A request verified.
    pub(crate) fn verified(&self) {
        self.figures.verified();
    }

    /// Counts a request, and hands it over to be kept where the budget allows. Never waits.
    pub(crate) fn note(&self, request: Request<'_>) {
        if request.refused {
            self.figures.refused();
        }
        let how = &mut *lock(&self.how);
        let Some(queue) = how.queue.as_ref().filter(|_| how.keep != Keep::Counts) else {
            return self.figures.not_kept(NotKept::Off);
        };
        if !how.pace.admits(Instant::now()) {
            return self.figures.not_kept(NotKept::Rate);
        }
        // A body says nothing about why there was no room for it.
        let request = Request { body: request.body.filter(|_| request.refused), ..request };
        let (record, body) = Record::new(&request, how.keep, how.body, SystemTime::now());
        if !queue.keep(&self.figures.source, record, body) {
            self.figures.not_kept(NotKept::Queue);
        }
    }

    /// How the source stands.
    pub(crate) fn standing(&self) -> Standing {
        lock(&self.watched).standing
    }

    /// Looks at the figures, and says when something changes. `now` counts from any fixed moment.
    pub(super) fn look(&self, now: Duration) {
        let source = &*self.figures.source;
        let change = {
            let watched = &mut *lock(&self.watched);
            let change = watched.alarm.look(now, self.figures.seen(), watched.after);
            match change {
                Some(Change::Begun { standing, .. }) => watched.standing = standing,
                Some(Change::Ended { .. }) => watched.standing = Standing::Fine,
                None => {}
            }
            change
        };
        match change {
            Some(Change::Begun { standing: Standing::NeverVerified, refused }) => tracing::warn!(
                source,
                refused,
                "never-verified: every request of this source was refused since the start; `hookbus rejected list` \
                 says why"
            ),
            Some(Change::Begun { refused, .. }) => tracing::warn!(
                source,
                refused,
                "all-refused: this source verified before, and now every request of it is refused; was its secret \
                 changed? `hookbus rejected list` says more"
            ),
            Some(Change::Ended { .. }) => tracing::info!(source, "requests of this source verify again"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use hookbus_core::SinkRegistry;

    use super::*;
    use crate::config::{Config, ConfigText};

    fn counted(rejected: &str, queue: Queue) -> Vec<(&'static str, u64)> {
        let text = format!("[sources.a]\nprovider = 'github'\nsecrets = []\nrejected = '{rejected}'\n");
        let (config, _) = Config::parse(&ConfigText::new(text), &SinkRegistry::new()).unwrap();
        let rejections = Rejections::new("a".into());
        rejections.configure(&config.sources[0], &config::Rejected::default());
        rejections.keep_by(queue);
        let masks = Masks::new(&config.sources[0].scheme);
        let (head, ()) = http::Request::post("/hooks/a").body(()).unwrap().into_parts();
        for number in 0..25 {
            let (body, client) = (Bytes::from_static(b"body"), IpAddr::from([127, 0, 0, 1]));
            let refused = number % 2 == 0;
            rejections.note(Request {
                head: &head,
                masks: &masks,
                body: Some(&body),
                client,
                reason: "x",
                status: 401,
                refused,
            });
        }
        assert_eq!(rejections.figures.seen(), (0, 13));
        rejections.figures.not_kept_requests().collect()
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_nobody_waits() {
        let (queue, stuck) = Queue::stuck(2);
        assert_eq!(counted("whole", queue), [("rate", 5), ("queue", 18), ("disk", 0), ("off", 0)]);
        drop(stuck);
        let (queue, stuck) = Queue::stuck(100);
        assert_eq!(counted("counts", queue.clone()), [("rate", 0), ("queue", 0), ("disk", 0), ("off", 25)]);
        // The thread has ended.
        drop(stuck);
        assert_eq!(counted("heads", queue), [("rate", 5), ("queue", 20), ("disk", 0), ("off", 0)]);
    }
}
