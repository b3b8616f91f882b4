//! Looks at all sources from time to time.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use super::Rejected;

/// How often; more often where alarms are to come sooner.
const LOOK: Duration = Duration::from_secs(5);

/// A task that looks at all sources until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch(JoinHandle<()>);

impl Watch {
    pub(crate) fn start(rejected: &Arc<Rejected>) -> Self {
        let rejected = Arc::clone(rejected);
        Self(tokio::spawn(async move {
            let started = Instant::now();
            let often = rejected.known().settings.alarm_after.get() / 24;
            let mut looks = interval(often.clamp(Duration::from_millis(10), LOOK));
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                for source in rejected.sources() {
                    source.look(started.elapsed());
                }
            }
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
