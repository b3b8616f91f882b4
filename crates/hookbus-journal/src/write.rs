//! The thread that writes groups and makes them safe.

use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{
    commit::JournalError,
    engine::{Engine, Finished, IDLE},
    group::Group,
    keeper,
    segment::Segment,
};

/// How long to wait before a write that failed is tried again.
const WRITE_AGAIN: Duration = Duration::from_millis(200);
/// How long the last notes may wait for a segment that has room for them.
const LAST_NOTES: Duration = Duration::from_secs(5);
/// How often they are tried meanwhile.
const AGAIN: Duration = Duration::from_millis(5);

impl Engine {
    /// The thread that writes. Groups are written in their order, and each is safe before the next one is begun: so only
    /// the last group of a journal can be torn.
    pub(crate) fn write(&self) {
        // However it ends: nobody may wait for what does not come any more.
        let _end = End(self);
        while let Some(group) = self.next_group() {
            if !self.write_group(group) {
                break;
            }
        }
    }

    /// Writes one group. Whether the journal can go on.
    fn write_group(&self, group: Group) -> bool {
        // Invariant: a segment is in the store before a group for it is, and as long as it is not safe.
        let Some(segment) = self.store.segment(group.at.segment) else { return false };
        let result = self.write_until_done(&segment, &group).and_then(|()| self.sync(&segment, &group));
        let failed = result.is_err();
        {
            let mut open = self.open();
            open.unsafe_yet.pop_front();
            if !failed {
                open.durable = open.durable.max(group.until);
                open.safe = open.safe.max(group.end());
                let feeds = self.feeds();
                for (at, needed) in &group.cursors {
                    feeds[*at].needed.store(*needed, Ordering::Release);
                }
            }
        }
        self.safe.notify_all();
        self.finish(Finished { group, result });
        !failed
    }

    /// Does at once what the threads do in time, for journals without any.
    pub(crate) fn turn(&self) {
        loop {
            let group = {
                let mut open = self.open();
                self.note_changes(&mut open, Instant::now());
                open.take()
            };
            let Some(group) = group else { break };
            self.write_group(group);
        }
        keeper::look(self);
        self.tell_finished();
    }

    /// Waits for a group.
    fn next_group(&self) -> Option<Group> {
        let mut open = self.open();
        let mut until = None;
        loop {
            let mut wait = match open.closed.is_empty() {
                true => self.note_changes(&mut open, Instant::now()),
                false => IDLE,
            };
            if let Some(gap) = self.gap.next(&open.group) {
                open = self.more.wait_timeout(open, gap).unwrap_or_else(PoisonError::into_inner).0;
            }
            if let Some(group) = open.take() {
                self.gap.taken(&group);
                return Some(group);
            }
            if self.stopping.load(Ordering::Acquire) {
                // What had no room in this segment is noted in the next one.
                let until = *until.get_or_insert_with(|| Instant::now() + LAST_NOTES);
                if self.all_noted() || Instant::now() >= until {
                    return None;
                }
                self.keeping.wake();
                wait = AGAIN;
            }
            open.idle = true;
            let waited = self.work.wait_timeout(open, wait);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
            open.idle = false;
        }
    }

    /// Writes a group, again and again until the disk takes it: whatever was not answered by then is answered when it is
    /// there. Nothing new is accepted meanwhile.
    fn write_until_done(&self, segment: &Segment, group: &Group) -> Result<(), JournalError> {
        let mut refused = false;
        while let Err(error) = segment.file.write_at(&group.buffer, group.at.offset) {
            if !std::mem::replace(&mut refused, true) {
                tracing::error!(%error, "cannot write the journal; nothing is accepted until it can be written again");
            }
            let error = JournalError::Disk(Arc::new(error));
            self.open().closed_for = Some(error.clone());
            if self.stopping.load(Ordering::Acquire) {
                return Err(error);
            }
            self.pause.wait(WRITE_AGAIN);
        }
        if refused {
            tracing::info!("the journal can be written again");
            self.open().closed_for = None;
        }
        Ok(())
    }

    fn sync(&self, segment: &Segment, group: &Group) -> Result<(), JournalError> {
        let begun = Instant::now();
        segment.file.sync().map_err(|error| self.fail(&error))?;
        self.gap.synced(begun.elapsed());
        if let Some(observer) = &self.settings.observer {
            observer.group(group.events.len() as u64, group.buffer.len() as u64, begun.elapsed());
        }
        Ok(())
    }

    /// An fsync failed. The kernel may have dropped what it could not write and say yes the next time, so nothing that
    /// comes from this file can be trusted to be on disk.
    fn fail(&self, error: &io::Error) -> JournalError {
        tracing::error!(%error, "an fsync of the journal failed; nothing is accepted until a restart");
        self.open().closed_for = Some(JournalError::Failed);
        JournalError::Failed
    }

    /// Tells all that still wait that nothing more comes.
    fn end(&self) {
        let (groups, error) = {
            let mut open = self.open();
            let error = open.closed_for.get_or_insert(JournalError::Closed).clone();
            let mut groups = Vec::new();
            while let Some(group) = open.take() {
                groups.push(group);
            }
            // The next start need not read a segment that was sealed, and misses what is then missing of it.
            let all_safe = groups.is_empty() && open.durable == open.next_sequence;
            let sealed = all_safe.then(|| open.segment.seal(&self.store.key, open.footer()));
            if let Some(Err(error)) = sealed {
                tracing::warn!(segment = open.segment.number, %error, "cannot write the footer of a segment");
            }
            (groups, error)
        };
        for group in groups {
            self.finish(Finished { group, result: Err(error.clone()) });
        }
        self.ended.store(true, Ordering::Release);
        self.finish.notify_one();
        self.safe.notify_all();
        self.turned.notify_waiters();
        self.keeping.wake();
    }
}

/// Ends the writing.
struct End<'a>(&'a Engine);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
