//! What addresses have sent in vain, in a table of fixed size.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Pace, since};

/// Rows of the table, each with a lock of its own.
const ROWS: usize = 1024;
/// Addresses in a row.
const PLACES: usize = 8;
/// How long an authentic request speaks for its address.
const TRUSTED: Duration = Duration::from_secs(24 * 3600);

/// The refused requests of each address.
///
/// An address has a place in one row, which is drawn by a hash that nobody outside can predict. Where the row is full,
/// the place of an address goes that nothing authentic came from, and of those the one that owes least: it begins
/// anew. So whoever has more addresses than the table has places is limited less than others; nobody shares an
/// allowance with a stranger, and nothing grows.
#[derive(Debug)]
pub(crate) struct Addresses {
    started: Instant,
    hasher: RandomState,
    rows: Box<[Mutex<Row>]>,
}

type Row = [Place; PLACES];

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    address: Option<IpAddr>,
    /// Until when its last authentic request speaks for it; zero where there was none. A place is given away by this first.
    trusted_until: u64,
    /// When its allowance is whole again.
    due: u64,
}

impl Addresses {
    /// Nothing is known of any.
    pub(crate) fn new(started: Instant) -> Self {
        let rows = (0..ROWS).map(|_| Mutex::default()).collect();
        Self { started, hasher: RandomState::new(), rows }
    }

    /// Whether a request from this address is looked at; else how long until one is.
    pub(crate) fn admit(&self, address: IpAddr, pace: Pace, now: Instant) -> Result<(), Duration> {
        let now = since(self.started, now);
        let row = self.row(address);
        let Some(place) = row.iter().find(|place| place.address == Some(address)) else { return Ok(()) };
        match pace.wait(place.due, now) {
            _ if now < place.trusted_until => Ok(()),
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// A request from this address was in vain.
    pub(crate) fn refused(&self, address: IpAddr, pace: Pace, now: Instant) {
        let now = since(self.started, now);
        let mut row = self.row(address);
        let place = place_of(&mut row, address);
        place.due = pace.charged(place.due, now);
    }

    /// A request from this address was authentic.
    pub(crate) fn authentic(&self, address: IpAddr, now: Instant) {
        let until = since(self.started, now + TRUSTED);
        place_of(&mut self.row(address), address).trusted_until = until;
    }

    fn row(&self, address: IpAddr) -> MutexGuard<'_, Row> {
        let hash = self.hasher.hash_one(address);
        let row = &self.rows[hash as usize % self.rows.len()];
        row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of an address, or one that is given to it.
fn place_of(row: &mut Row, address: IpAddr) -> &mut Place {
    let known = row.iter().position(|place| place.address == Some(address));
    let at = known.unwrap_or_else(|| {
        let least = row.iter().enumerate().min_by_key(|(_, place)| (place.trusted_until, place.due));
        least.map_or(0, |(at, _)| at)
    });
    let place = &mut row[at];
    if known.is_none() {
        *place = Place { address: Some(address), ..Place::default() };
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RateLimit;

    const SECOND: Duration = Duration::from_secs(1);

    fn addresses() -> (Addresses, Instant) {
        let started = Instant::now();
        (Addresses::new(started), started)
    }

    /// Thirty refused requests at once, and one every two seconds.
    fn admit(addresses: &Addresses, address: IpAddr, now: Instant) -> Result<(), Duration> {
        addresses.admit(address, Pace::new(&RateLimit::per_minute(30)), now)
    }

    fn v4(last: u32) -> IpAddr {
        IpAddr::V4(last.into())
    }

    fn refuse(addresses: &Addresses, address: IpAddr, times: u32, now: Instant) {
        (0..times).for_each(|_| addresses.refused(address, Pace::new(&RateLimit::per_minute(30)), now));
    }

    #[test]
    fn what_was_in_vain_is_charged_to_its_address_alone() {
        let (addresses, now) = addresses();
        refuse(&addresses, v4(1), 29, now);
        assert_eq!(admit(&addresses, v4(1), now), Ok(()));
        refuse(&addresses, v4(1), 1, now);
        assert_eq!(admit(&addresses, v4(1), now), Err(2 * SECOND));
        assert_eq!(admit(&addresses, v4(1), now + SECOND), Err(SECOND));
        assert_eq!(admit(&addresses, v4(2), now), Ok(()));
        // Looking costs nothing, and what was in progress already makes the wait no longer.
        refuse(&addresses, v4(1), 100, now);
        assert_eq!(admit(&addresses, v4(1), now + 2 * SECOND), Ok(()));
        refuse(&addresses, v4(1), 1, now + 2 * SECOND);
        assert_eq!(admit(&addresses, v4(1), now + 2 * SECOND), Err(2 * SECOND));
        assert_eq!(admit(&addresses, v4(1), now + 70 * SECOND), Ok(()));
    }

    #[test]
    fn who_has_sent_an_authentic_request_is_not_limited_for_a_day() {
        let (addresses, now) = addresses();
        addresses.authentic(v4(1), now);
        refuse(&addresses, v4(1), 1_000, now);
        assert_eq!(admit(&addresses, v4(1), now), Ok(()));
        let day = 24 * 3600 * SECOND;
        refuse(&addresses, v4(1), 1_000, now + day - SECOND);
        assert_eq!(admit(&addresses, v4(1), now + day - SECOND), Ok(()));
        assert!(admit(&addresses, v4(1), now + day).is_err());
        addresses.authentic(v4(1), now + day);
        assert_eq!(admit(&addresses, v4(1), now + day), Ok(()));
    }

    #[test]
    fn a_flood_from_many_addresses_makes_nobody_pay_for_it() {
        let (addresses, now) = addresses();
        let places = u32::try_from(ROWS * PLACES).unwrap();
        let provider = v4(0);
        addresses.authentic(provider, now);
        // One that is out of its allowance before, and owes more than any of the many.
        let forger = IpAddr::V6(1_u128.into());
        refuse(&addresses, forger, 30, now);
        for number in 1..=20 * places {
            refuse(&addresses, v4(number), 1, now);
        }
        refuse(&addresses, provider, 1_000, now);
        assert_eq!(admit(&addresses, provider, now), Ok(()), "its place is not given away");
        assert!(admit(&addresses, forger, now).is_err(), "nor is that of who owes most");
        let strangers = (0..10_000).filter(|number| admit(&addresses, v4(u32::MAX - number), now).is_err());
        assert_eq!(strangers.count(), 0);
        let held = addresses.rows.iter().flat_map(|row| *row.lock().unwrap());
        assert_eq!(held.filter(|place| place.address.is_some()).count(), ROWS * PLACES);
    }

    #[test]
    fn even_where_all_owe_everything_a_stranger_is_let_in() {
        let (addresses, now) = addresses();
        let places = u32::try_from(ROWS * PLACES).unwrap();
        for number in 0..4 * places {
            refuse(&addresses, v4(number), 30, now);
        }
        let strangers = (0..10_000).filter(|number| admit(&addresses, v4(u32::MAX - number), now).is_err());
        assert_eq!(strangers.count(), 0);
        let limited = (0..4 * places).filter(|number| admit(&addresses, v4(*number), now).is_err()).count();
        assert!(limited <= ROWS * PLACES && limited > ROWS * PLACES / 2, "{limited}");
    }
}
