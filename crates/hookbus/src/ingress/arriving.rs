//! Requests whose bodies are on their way: nobody has proved anything yet, and each holds a head.
//!
//! Over HTTP/1.1 there are as many as connections, but one connection of HTTP/2 brings many. So they have a limit of their
//! own, all together and for each client, and at that limit the one goes that has been arriving for longest: whoever
//! sends slowly makes room for others, and a body that comes at once is never in the way.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::budget::first_steps;
use crate::config::Limits;

/// All requests whose bodies are on their way.
#[derive(Debug)]
pub(super) struct Arriving {
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    limit: usize,
    per_client: usize,
    next: u64,
    /// By number, so that the first one has been arriving for longest.
    all: BTreeMap<u64, Waiting>,
    by_client: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Waiting {
    client: Option<IpAddr>,
    end: Arc<Notify>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    arriving: Arc<Arriving>,
    number: u64,
    end: Arc<Notify>,
}

impl Arriving {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let (next, all, by_client) = Default::default();
        let (limit, per_client) = allowed(limits);
        Arc::new(Self { open: Mutex::new(Open { limit, per_client, next, all, by_client }) })
    }

    /// These limits hold from now on.
    pub(super) fn set(&self, limits: &Limits) {
        let mut open = self.lock();
        (open.limit, open.per_client) = allowed(limits);
    }

    /// One more. Where that is one too many, the one goes that has been arriving for longest: of the same client, where that
    /// has too many, else of all. A client of whom nothing is known, since its proxy does not say who it is, has no share.
    pub(super) fn begin(self: &Arc<Self>, client: Option<IpAddr>) -> Arrival {
        let end = Arc::new(Notify::new());
        let mut open = self.lock();
        let too_many =
            |client: &IpAddr| open.by_client.get(client).is_some_and(|count| *count >= open.per_client);
        if let Some(client) = client.filter(too_many) {
            let longest = open.all.iter().find(|(_, waiting)| waiting.client == Some(client));
            let longest = longest.map(|(number, _)| *number);
            longest.into_iter().for_each(|number| open.give_up(number));
        }
        while open.all.len() >= open.limit {
            let Some(longest) = open.all.first_key_value().map(|(number, _)| *number) else { break };
            open.give_up(longest);
        }
        let number = open.next;
        open.next += 1;
        open.all.insert(number, Waiting { client, end: Arc::clone(&end) });
        if let Some(client) = client {
            *open.by_client.entry(client).or_default() += 1;
        }
        drop(open);
        Arrival { arriving: Arc::clone(self), number, end }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many as there may be connections, and no more than there are first steps for of one source, less an eighth for those
/// that are just going; and those of one client.
fn allowed(limits: &Limits) -> (usize, usize) {
    let steps = first_steps(limits.in_flight.as_len());
    let limit = limits.connections.0.min(steps - steps / 8).max(1);
    (limit, limits.per_address().min(limit))
}

impl Open {
    fn give_up(&mut self, number: u64) {
        if let Some(waiting) = self.remove(number) {
            waiting.end.notify_one();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.all.remove(&number)?;
        if let Some(client) = waiting.client
            && let Some(count) = self.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
        Some(waiting)
    }
}

impl Arrival {
    /// Ends when it has to go.
    pub(super) async fn given_up(&self) {
        self.end.notified().await;
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.arriving.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn limits(connections: usize, per_address: usize) -> Limits {
        let count = |count: usize| count.try_into().unwrap();
        let connections_per_address = Some(count(per_address));
        Limits { connections: count(connections), connections_per_address, ..Limits::default() }
    }

    fn client(last: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(last.into()))
    }

    async fn has_to_go(arrival: &Arrival) -> bool {
        timeout(Duration::ZERO, arrival.given_up()).await.is_ok()
    }

    #[tokio::test]
    async fn the_one_that_has_been_arriving_for_longest_goes() {
        let arriving = Arriving::new(&limits(3, 3));
        let [first, second, third] = [1, 2, 3].map(|number| arriving.begin(client(number)));
        assert!(!has_to_go(&first).await);
        drop(second);
        let fourth = arriving.begin(None);
        assert!(!has_to_go(&first).await, "there was room");
        let fifth = arriving.begin(None);
        assert!(has_to_go(&first).await);
        for other in [&third, &fourth, &fifth] {
            assert!(!has_to_go(other).await);
        }
        // It counts no more, and going later counts nothing twice.
        drop(first);
        assert_eq!(arriving.lock().all.len(), 3);
        drop((third, fourth, fifth));
        assert!(arriving.lock().all.is_empty() && arriving.lock().by_client.is_empty());
    }

    #[tokio::test]
    async fn a_client_with_too_many_pays_for_it_alone() {
        let arriving = Arriving::new(&limits(10, 2));
        let other = arriving.begin(client(1));
        let mine: Vec<_> = (0..4).map(|_| arriving.begin(client(2))).collect();
        assert!(!has_to_go(&other).await);
        let mut gone = Vec::new();
        for arrival in &mine {
            gone.push(has_to_go(arrival).await);
        }
        assert_eq!(gone, [true, true, false, false]);
        // Nobody knows whose these are: only the limit of all holds.
        let untold: Vec<_> = (0..7).map(|_| arriving.begin(None)).collect();
        assert!(!has_to_go(&other).await);
        let _last = arriving.begin(None);
        assert!(has_to_go(&other).await);
        drop(untold);
    }

    #[test]
    fn there_is_a_first_step_for_each() {
        let defaults = Limits::default();
        assert_eq!(allowed(&defaults).0, 896);
        assert_eq!(allowed(&limits(100, 60)), (100, 60));
    }
}
