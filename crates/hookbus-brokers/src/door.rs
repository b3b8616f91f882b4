//! Doors: ways into Kafka through a test's proxy.

use std::{fs::File, net::SocketAddr, ops::Deref};

use crate::Contact;

/// A listener of Kafka that says it is somewhere else: where a test may put its proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// Where Kafka listens, and a proxy forwards to.
    pub upstream: SocketAddr,
    /// Where clients are told to go, and a proxy listens.
    pub advertised: SocketAddr,
}

/// A door nobody else has until this is dropped: no other test, in this process or another.
#[derive(Debug)]
pub struct ClaimedDoor {
    door: Door,
    /// Its lock ends when the file is closed.
    _lock: File,
}

impl Deref for ClaimedDoor {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

impl Contact {
    /// A door that nobody else has claimed; `None` where all are claimed, and for a broker that is not ours.
    pub fn claim_door(&self) -> Option<ClaimedDoor> {
        let folder = self.folder()?;
        self.doors().iter().find_map(|door| {
            let file = folder.join(format!("door-{}.lock", door.upstream.port()));
            let lock = File::options().append(true).create(true).open(file).ok()?;
            lock.try_lock().ok()?;
            Some(ClaimedDoor { door: *door, _lock: lock })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, contact::Endpoint, folders::Scratch};

    #[test]
    fn a_door_is_claimed_by_one_at_a_time() {
        let scratch = Scratch::new(Kind::Kafka).unwrap();
        let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut kafka = Contact::new(Kind::Kafka, Endpoint::new(one, |at| at.to_string()));
        assert!(kafka.claim_door().is_none());
        kafka.folder = Some(scratch.path().to_owned());
        kafka.doors = vec![Door { upstream: one, advertised: two }, Door { upstream: two, advertised: one }];
        let (first, second) = (kafka.claim_door().unwrap(), kafka.claim_door().unwrap());
        assert_eq!((first.upstream, second.upstream), (one, two));
        assert!(kafka.claim_door().is_none());
        drop(first);
        assert_eq!(kafka.claim_door().unwrap().upstream, one);
    }
}
