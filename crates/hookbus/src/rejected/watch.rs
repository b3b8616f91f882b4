//! Looks at all sources from time to time.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
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
            loop {
                // The configuration may change meanwhile.
                let often = rejected.known().settings.alarm_after.get() / 24;
                sleep(often.clamp(Duration::from_millis(10), LOOK)).await;
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
