//! What stays in order.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwap;
use hookbus_core::{Address, Envelope, VerifiedEvent};

use crate::config::Order;

/// Tells the group of an event at an address, the same for all lanes and for whatever they deliver.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// What keeps its order, by the name of the source.
    orders: ArcSwap<HashMap<Arc<str>, Order>>,
    hasher: RandomState,
}

impl Groups {
    /// The groups of these sources.
    pub(crate) fn new(orders: impl IntoIterator<Item = (Arc<str>, Order)>) -> Self {
        Self { orders: ArcSwap::from_pointee(orders.into_iter().collect()), hasher: RandomState::new() }
    }

    /// From now on these sources have these orders.
    pub(crate) fn set(&self, orders: impl IntoIterator<Item = (Arc<str>, Order)>) {
        self.orders.store(Arc::new(orders.into_iter().collect()));
    }

    /// An event on its way to this address, in its group. A source that is no longer configured has its order by
    /// subject.
    pub(crate) fn envelope(&self, event: VerifiedEvent, address: Address) -> Envelope {
        let order = self.orders.load().get(event.source()).copied().unwrap_or_default();
        let subject = match (order, event.subject()) {
            (Order::Source, _) => None,
            (Order::Subject, Some(subject)) => Some(subject),
            (Order::Subject, None) => return Envelope::new(event, address),
        };
        let group = self.hasher.hash_one((&address, event.source(), subject));
        Envelope::new(event, address).in_group(group)
    }
}

#[cfg(test)]
mod tests {
    use hookbus_testkit::TestEvent;

    use super::*;
    use crate::lane::tests::address;

    #[test]
    fn by_subject_or_by_source() {
        let event = |source: &str, subject: &str| TestEvent::new(source).subject(subject).build();
        let groups =
            Groups::new([(Arc::from("strict"), Order::Source), (Arc::from("loose"), Order::Subject)]);
        let group = |source, subject, topic| groups.envelope(event(source, subject), address(topic)).group();
        assert_eq!(group("loose", "a", "t"), group("loose", "a", "t"));
        assert_ne!(group("loose", "a", "t"), group("loose", "b", "t"));
        assert_ne!(group("loose", "a", "t"), group("loose", "a", "u"));
        assert_eq!(group("strict", "a", "t"), group("strict", "b", "t"));
        assert_ne!(group("gone", "a", "t"), group("gone", "b", "t"), "by subject");
    }
}
