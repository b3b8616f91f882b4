//! Ports nobody listens on.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use crate::{Error, Result};

/// The first port that is tried, and how many there are.
///
/// The system hands out others (32768 and up on Linux) to whoever binds port 0 or connects. A broker that is down must
/// not lose its port to them: not to another program, and not to a client that calls it again and again until the
/// system makes that very port the client's own, and it is connected to itself.
const FIRST: u16 = 10_240;
const COUNT: u16 = 22_000;

/// Where to look next: processes begin at places of their own, so that two do not find the same free port.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
    let random = RandomState::new().hash_one(std::process::id());
    AtomicU16::new((random % u64::from(COUNT)) as u16)
});

/// A loopback address nobody listens on, and that this process gets only once: for a server that goes away and comes
/// back, as none of its clients is ever given its port.
///
/// # Errors
///
/// If all ports are taken.
pub fn free() -> Result<SocketAddr> {
    let candidates = (0..COUNT).map(|_| {
        let next = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| Some((next + 1) % COUNT));
        SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + next.unwrap_or_default()))
    });
    let found = candidates.into_iter().find(|address| TcpListener::bind(address).is_ok());
    found.ok_or_else(|| Error::Invalid("all ports of this machine are taken".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_different_and_not_of_those_the_system_hands_out() {
        let (one, two) = (free().unwrap(), free().unwrap());
        assert_ne!(one, two);
        TcpListener::bind(one).unwrap();
        assert!((FIRST..32_768).contains(&one.port()));
    }
}
