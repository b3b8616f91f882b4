//! The thread that keeps house: it makes the next segment, writes footers, and lets go of what nobody needs.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use crate::{
    carry,
    commit::JournalError,
    cursor::seconds,
    engine::Engine,
    format::Header,
    group::{Next, Open, Reserved},
    segment::{self, START, Segment},
};

/// How often it looks around without being asked.
const LOOK: Duration = Duration::from_secs(1);
/// The same while events wait for the oldest segment to go.
const SOON: Duration = Duration::from_millis(20);
/// How long cursors may take to be noted.
const NOTED: Duration = Duration::from_millis(250);
/// The first segments are no larger than this; each next one is up to four times as large.
pub(crate) const FIRST: u64 = 8 << 20;

/// Keeps house until nothing is written any more: the last notes may need another segment.
pub(crate) fn keep(engine: &Engine) {
    while !engine.ended.load(Ordering::Acquire) {
        look(engine);
        let soon = engine.open().reserved != Reserved::No;
        engine.keeping.wait(if soon { SOON } else { LOOK });
    }
    engine.seal_finished();
    engine.write_tables();
}

/// Does whatever there is to do.
pub(crate) fn look(engine: &Engine) {
    loop {
        engine.seal_finished();
        engine.correct_tables();
        engine.write_tables();
        engine.make_next();
        // The copies may have filled the next segment. At the end nobody needs them ahead of time.
        if engine.stopping.load(Ordering::Acquire) || !engine.free_ahead() {
            break;
        }
    }
    engine.let_go_of_old();
    engine.recount();
}

impl Engine {
    /// Writes the footers of segments that are safe to their end.
    fn seal_finished(&self) {
        let durable = self.open().durable;
        let ended: Vec<_> = self.store.segments().values().map(Arc::clone).collect();
        for segment in ended {
            let Some(footer) = segment.footer.get() else { continue };
            if segment.is_sealed() || footer.last_sequence >= durable {
                continue;
            }
            // Without a footer it is only read more slowly at the next start.
            if let Err(error) = segment.seal(&self.store.key, *footer) {
                tracing::warn!(segment = segment.number, %error, "cannot write the footer of a segment");
                return;
            }
        }
    }

    /// Makes the next segment, where there is none.
    fn make_next(&self) {
        let was_refused = match &self.open().next {
            Next::Ready(_) => return,
            Next::Awaited => false,
            Next::Refused(_) => true,
        };
        let made = self.make_segment();
        match &made {
            Ok(Some(_)) if was_refused => tracing::info!("the journal has room again"),
            Err(error) if !was_refused => {
                tracing::warn!(%error, "the journal cannot grow; what does not fit is refused until it can");
            }
            _ => {}
        }
        {
            let mut open = self.open();
            match made {
                Ok(Some(made)) => open.next = Next::Ready(Arc::new(made)),
                // It passes: events wait, so that they leave room for the copies.
                Ok(None) if !matches!(open.next, Next::Ready(_)) => open.next = Next::Awaited,
                Ok(None) => {}
                Err(error) => open.next = Next::Refused(error),
            }
        }
        // Made of what is kept back: whoever it was made for comes first.
        let over = self.bytes() > self.usual_size();
        {
            let mut open = self.open();
            open.reserved = match &open.next {
                Next::Awaited => Reserved::ForCopies,
                Next::Ready(_) if over => Reserved::ForCopies,
                Next::Ready(_) | Next::Refused(_) => Reserved::No,
            };
        }
        self.turned.notify_waiters();
    }

    /// What the next segment has: the first ones are small.
    pub(crate) fn next_capacity(&self, open: &Open) -> u64 {
        open.segment.header.capacity.saturating_mul(4).min(self.settings.segment_size)
    }

    /// Makes room for a segment and then the segment, out of an old one where there is one of that size. Nothing where the
    /// room is not there yet, or where there is a next one by now.
    fn make_segment(&self) -> Result<Option<Segment>, JournalError> {
        let refused = |error| JournalError::Disk(Arc::new(error));
        let number = loop {
            let (number, capacity) = {
                let open = self.open();
                if let Next::Ready(_) = open.next {
                    return Ok(None);
                }
                (open.segment.number + 1, self.next_capacity(&open))
            };
            if self.bytes() + capacity <= self.usual_size() {
                break (number, capacity);
            }
            // With a third one, there is one that may go.
            let Some(oldest) = self.oldest() else { break (number, capacity) };
            if oldest.number >= self.needed() {
                let outcome = self.free(&oldest);
                if let Next::Ready(_) = self.open().next {
                    return Ok(None);
                }
                // The notes that say where the copies are may need the next segment first.
                let spare = self.bytes() + capacity <= self.most_with_copies(&oldest);
                match outcome {
                    // They may have gone on in a segment made for them.
                    carry::Outcome::Done if oldest.number < self.needed() => continue,
                    carry::Outcome::Done if spare => break (self.open().segment.number + 1, capacity),
                    carry::Outcome::Done | carry::Outcome::NotNow => return Ok(None),
                    // The last notes are worth it: the next start has more room by them.
                    carry::Outcome::TooMuch if spare && self.stopping.load(Ordering::Acquire) => {
                        break (number, capacity);
                    }
                    carry::Outcome::TooMuch => return Err(JournalError::Full),
                    carry::Outcome::Refused(error) => return Err(error),
                }
            }
            self.correct_tables();
            // It is let go of when it is gone from the disk, and not before: what is counted is what is there.
            let left = self.bytes() - oldest.bytes();
            if oldest.header.capacity == capacity && left + capacity <= self.usual_size() {
                let (old, new) = (segment::name(oldest.number), segment::name(number));
                self.store.folder.rename(&old, &new).map_err(refused)?;
                self.store.segments().remove(&oldest.number);
                self.count_fewest();
                // Before it is filled with zeros: under its old name they would look like damage.
                self.store.folder.sync().map_err(refused)?;
                break (number, capacity);
            }
            self.remove(&oldest).map_err(refused)?;
        };
        let (number, capacity) = number;
        let header = Header { begun: seconds(SystemTime::now()), capacity };
        Segment::make(&*self.store.folder, &self.store.key, number, header).map(Some).map_err(refused)
    }

    /// What all segments may take while nothing has to be copied on: one less than all they may.
    fn usual_size(&self) -> u64 {
        self.settings.max_size.saturating_sub(self.settings.segment_size)
    }

    /// Bytes of all segments on disk.
    pub(crate) fn bytes(&self) -> u64 {
        let next = match &self.open().next {
            Next::Ready(next) => next.bytes(),
            Next::Awaited | Next::Refused(_) => 0,
        };
        self.store.bytes() + next
    }

    /// Sees to it that the oldest segment can go when the one behind the next is made: what a few slow sinks need of it is
    /// copied on. Before there is need, because the copies want room too. Whether it did anything.
    fn free_ahead(&self) -> bool {
        let (ready, reserved) = {
            let open = self.open();
            (matches!(open.next, Next::Ready(_)), open.reserved)
        };
        let over = self.bytes() + self.settings.segment_size > self.usual_size();
        let oldest = self.oldest().filter(|_| over && (ready || reserved != Reserved::No));
        let Some(oldest) = oldest else {
            self.reserve(Reserved::No);
            return false;
        };
        let needed = oldest.number >= self.needed();
        // Not where it could not be noted: then there is nothing to go on with.
        let outcome = if needed { self.free(&oldest) } else { carry::Outcome::Done };
        let freed = matches!(outcome, carry::Outcome::Done) && oldest.number < self.needed();
        if freed && self.bytes() > self.settings.max_size {
            // It has grown by one to get here. That is given back before events go on, or there is none the next time.
            return self.remove(&oldest).is_ok();
        }
        if reserved != Reserved::No {
            self.reserve(match outcome {
                _ if freed => Reserved::No,
                carry::Outcome::TooMuch => Reserved::Full,
                carry::Outcome::Done | carry::Outcome::NotNow | carry::Outcome::Refused(_) => {
                    Reserved::ForCopies
                }
            });
        }
        needed && freed
    }

    /// Says who may go on in the next segment.
    fn reserve(&self, reserved: Reserved) {
        let before = std::mem::replace(&mut self.open().reserved, reserved);
        if before != reserved {
            self.turned.notify_waiters();
        }
    }

    /// Lets the sinks need nothing of a segment, the oldest one, where they need little.
    fn free(&self, oldest: &Segment) -> carry::Outcome {
        let feeds = self.feeds();
        let needed = feeds.iter().any(|feed| feed.cursor().oldest() <= oldest.number);
        let known = self.overlap().knows(oldest.number);
        let outcome = match needed {
            false => carry::Outcome::Done,
            // Where it was looked at before, that need not be done again to know.
            true if known && self.is_too_much() => carry::Outcome::TooMuch,
            // A disk that cannot be read is given time.
            true if self.unreadable().is_some_and(|since| since.elapsed() < LOOK) => carry::Outcome::NotNow,
            true => carry::carry(self, oldest),
        };
        if matches!(outcome, carry::Outcome::Done) {
            self.note_past(oldest.number, NOTED);
        }
        outcome
    }

    /// Whether too much is not delivered to copy it on. One segment may be all copies; what matters is that others are
    /// not, so that copying comes to an end.
    pub(crate) fn is_too_much(&self) -> bool {
        let pending = self.feeds().iter().fold(0, |sum: u64, feed| sum.saturating_add(feed.pending().1));
        let size = self.settings.segment_size.max(1);
        let beside = START + self.settings.reserve(size) + self.checkpoint_size();
        let room = self.usual_size() / size * size.saturating_sub(beside);
        self.overlap().needed_of(pending) > room / 4 * 3
    }

    /// See [`fewest_bytes`](Self::fewest_bytes).
    fn count_fewest(&self) {
        let bytes = self.bytes();
        self.fewest_bytes.fetch_min(bytes, Ordering::Relaxed);
    }

    /// The oldest segment that may go at all: the one that is appended to and the one before may not, so that there are
    /// two checkpoints.
    fn oldest(&self) -> Option<Arc<Segment>> {
        let current = self.open().segment.number;
        let segments = self.store.segments();
        let before = segments.range(..current).next_back().map_or(0, |(number, _)| *number);
        let oldest = segments.values().next()?;
        (oldest.number < before).then(|| Arc::clone(oldest))
    }

    /// The first segment that a sink needs, as far as is safe on disk.
    pub(crate) fn needed(&self) -> u64 {
        let feeds = self.feeds();
        feeds.iter().map(|feed| feed.needed.load(Ordering::Acquire)).fold(u64::MAX, u64::min)
    }

    /// Lets go of delivered segments that are older than they need to be kept.
    fn let_go_of_old(&self) {
        let now = seconds(SystemTime::now());
        let keep = self.settings.retention.as_secs();
        while let Some(oldest) = self.oldest() {
            let Some(footer) = oldest.footer.get() else { return };
            let empty = footer.events == 0;
            let old = now.saturating_sub(footer.sealed) > keep;
            if !(old || empty) || oldest.number >= self.needed() {
                return;
            }
            self.correct_tables();
            if let Err(error) = self.remove(&oldest) {
                tracing::warn!(segment = oldest.number, %error, "cannot remove a segment that nobody needs");
                return;
            }
        }
    }

    /// Removes the file of a segment, and lets go of it when that is done.
    fn remove(&self, segment: &Segment) -> io::Result<()> {
        match self.store.folder.remove(&segment::name(segment.number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.store.segments().remove(&segment.number);
        self.count_fewest();
        self.store.folder.sync()
    }
}
