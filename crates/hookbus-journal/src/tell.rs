//! Telling what is safe: those who wait for an answer, and the sinks.

use std::sync::{PoisonError, atomic::Ordering};

use crate::{
    cursor::Ahead,
    engine::{Engine, Finished},
    group::{Group, New},
};

impl Engine {
    pub(crate) fn finish(&self, finished: Finished) {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(finished);
        self.finish.notify_one();
    }

    /// Tells of groups whose fate is known, on the runtime: whoever waits there is woken without another thread. Ends when
    /// the journal is closed.
    pub(crate) async fn tell(&self) {
        loop {
            let more = self.finish.notified();
            // Looked at before what is finished: whatever the writer finished before it ended is seen then.
            let last = self.ended.load(Ordering::Acquire);
            self.tell_finished();
            if last {
                return;
            }
            more.await;
        }
    }

    pub(crate) fn tell_finished(&self) {
        let finished = std::mem::take(&mut *self.finished.lock().unwrap_or_else(PoisonError::into_inner));
        for Finished { group, result } in finished {
            group.commit.tell(result.clone());
            self.distribute(&group, result.is_ok());
            self.told.store(group.until, Ordering::Release);
        }
    }

    /// Hands the events of a group to the sinks they are for.
    pub(crate) fn distribute(&self, group: &Group, safe: bool) {
        let head = group.end();
        for (at, feed) in self.feeds().iter().enumerate() {
            let mine = |new: &'_ New| new.to.iter().any(|(sink, ..)| *sink == at);
            if !safe {
                for new in group.events.iter().filter(|new| mine(new)) {
                    feed.subtract(u64::from(new.bytes));
                }
                continue;
            }
            let entries = group.events.iter().flat_map(|new| {
                let mine = new.to.iter().filter(move |(sink, ..)| *sink == at);
                mine.map(move |(_, number, address)| {
                    let id = crate::EntryId { sequence: new.sequence, destination: *number };
                    Ahead::new(id, new.event.clone(), address.clone(), new.at, new.bytes)
                })
            });
            let anything = {
                let mut cursor = feed.cursor();
                match group.events.is_empty() {
                    true => {
                        cursor.set_head(head);
                        false
                    }
                    false => cursor.committed(entries, head),
                }
            };
            if anything {
                feed.more.notify_one();
            }
        }
    }
}
