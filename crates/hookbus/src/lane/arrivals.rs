//! What comes into a lane: from requests, and from the journal.

use std::io;

use hookbus_journal::Entry;
use tokio::time::Instant;

use super::{Delivery, GATHER, GATHERED, intake::Came, worker::Worker};

impl Worker {
    /// Takes a new delivery of a request in, or says at once what stands in its way.
    pub(super) fn admit(&mut self, delivery: Delivery) {
        let now = Instant::now();
        let in_the_way = self.pace.obstacle(now).or_else(|| {
            if self.aside.is_empty() {
                return None;
            }
            self.aside.obstacle(&delivery.envelope.address.place(), now)
        });
        match in_the_way {
            Some((error, after)) => delivery.missing(error, after),
            None => {
                // Now and then, because it looks at all of them.
                if self.queue.len() >= self.purge_at {
                    self.queue.purge();
                    self.purge_at =
                        (self.config.max_events / 2).max(self.queue.len() + self.config.max_events / 8);
                }
                self.queue.push(delivery);
            }
        }
    }

    /// Takes over what came from the journal. Nothing is refused: what cannot be sent now waits, in memory within the
    /// window, or in the journal where its address is set aside.
    pub(super) fn came(&mut self, came: Came) {
        let Some(intake) = &mut self.intake else { return };
        match came {
            Came::Kept(id) => intake.resolve(id),
            Came::New(Ok(entries)) => {
                intake.readable();
                intake.took_new();
                entries.into_iter().for_each(|entry| self.take_in(entry));
            }
            Came::Parked(_, Ok(entry)) => {
                intake.readable();
                if let Some(delivery) = intake.deliver_parked(entry) {
                    self.enqueue(delivery);
                }
            }
            Came::GivenUp(_, Ok(entry)) => {
                intake.readable();
                intake.read_given_up(entry);
            }
            // No later try would find it.
            Came::Parked(id, Err(error)) if is_lost(&error) => intake.lost_parked(id),
            Came::GivenUp(id, Err(error)) if is_lost(&error) => intake.lost_given_up(id),
            Came::New(Err(error)) | Came::Parked(_, Err(error)) | Came::GivenUp(_, Err(error)) => {
                intake.unreadable(&error);
            }
        }
    }

    /// Takes a new entry in: into the queue, or only its id, where its place is set aside or others of it wait.
    fn take_in(&mut self, entry: Entry) {
        let Some(intake) = &mut self.intake else { return };
        let delivery = intake.deliver(entry);
        if self.aside.is_empty() && !intake.has_parked() {
            return self.enqueue(delivery);
        }
        let place = delivery.envelope.address.place();
        if self.aside.contains(&place) {
            intake.park(place.clone(), &delivery);
            if self.queue.passes(&place) {
                intake.want_one(&place);
            }
        } else if intake.is_parked(&place) {
            intake.park(place, &delivery);
        } else {
            self.enqueue(delivery);
        }
    }

    fn enqueue(&mut self, delivery: Delivery) {
        if self.gather.is_none() && !self.queue.has_ready() {
            self.gather = Some(Instant::now() + GATHER);
        }
        self.queue.push(delivery);
    }

    /// Whether it is worth waiting for more before anything is sent: for a moment, while there is little and all of it
    /// is answered already.
    pub(super) fn is_gathering(&mut self) -> bool {
        let enough = GATHERED.min(self.capabilities.batch_events());
        self.gather = self.gather.filter(|until| {
            self.pace.is_open()
                && self.requests.is_empty()
                && self.queue.len() < enough
                && *until > Instant::now()
        });
        self.gather.is_some()
    }
}

/// Whether an entry is not there any more, or damaged.
fn is_lost(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
}
