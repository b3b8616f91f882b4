//! What clients were told, held against what a consumer finds.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    io::{self, Write as _},
    time::Duration,
};

use super::crowd::Sent;
use crate::support::{Provider, bus::Arrived};

/// The figures of a test.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Events answered 200.
    pub(super) accepted: usize,
    /// Events on the bus, each counted once.
    pub(super) arrived: usize,
    /// Answers of 503.
    pub(super) refused: u64,
    /// Events never answered 200.
    pub(super) given_up: usize,
    /// Copies on the bus beyond the first of each event.
    pub(super) duplicates: usize,
    /// Events on the bus that were answered nothing but 503.
    pub(super) after_503: usize,
}

/// How long the bridge called its sink down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) down: Duration,
    /// How much of it after the broker was there again.
    pub(super) after: Duration,
}

impl Account {
    /// Holds what is on the bus against what was sent: every accepted event is there, nothing is there that was not
    /// sent, all of it byte for byte, and in order per subject where a client waited for each answer.
    pub(super) fn balance(sent: &[Sent], arrived: &[Arrived]) -> Self {
        Self::try_balance(sent, arrived).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    fn try_balance(sent: &[Sent], arrived: &[Arrived]) -> Result<Self, String> {
        let by_id: HashMap<String, &Sent> = sent.iter().map(|sent| (sent.id(), sent)).collect();
        let mut account = Self::default();
        let (mut there, mut last) = (HashSet::new(), HashMap::new());
        for found in arrived {
            let id = found.id();
            let sent = by_id.get(id).ok_or_else(|| format!("nobody sent {id:?}"))?;
            let signature = found.proof.get(Provider::FastPix.header());
            let (subject, object) = (found.attributes.get("subject"), sent.object());
            if found.body != sent.body || signature != Some(&sent.signature) || subject != Some(&object) {
                return Err(format!("{id} was sent otherwise: {found:?}"));
            }
            if !there.insert(sent.number) {
                account.duplicates += 1;
                continue;
            }
            if sent.insists {
                // Numbers of a client grow, and it has each of its subjects for itself.
                let before = last.insert(sent.subject, sent.number).unwrap_or(0);
                if before > sent.number {
                    return Err(format!("{id} was overtaken by number {before}"));
                }
            }
        }
        account.arrived = there.len();
        account.refused = sent.iter().map(|sent| sent.refused).sum();
        for sent in sent {
            match (sent.accepted, there.contains(&sent.number)) {
                (true, true) => account.accepted += 1,
                (true, false) => return Err(format!("{} was answered 200 and is not there", sent.id())),
                (false, arrived) => {
                    account.given_up += 1;
                    account.after_503 += usize::from(arrived);
                }
            }
        }
        Ok(account)
    }

    /// Checks that no more than this was in flight and unknown: that is what may be there twice, or after a 503.
    pub(super) fn at_most_in_flight(&self, most: usize) {
        assert!(self.duplicates <= most, "more duplicates than {most}: {self}");
        assert!(self.after_503 <= most, "more published after a 503 than {most}: {self}");
    }

    /// Shows the figures, whatever becomes of the test's other output.
    pub(super) fn show(&self, what: &str, outages: &[Outage]) {
        let mut line = format!("faults: {what}: {self}");
        for Outage { down, after } in outages {
            let [down, after] = [down, after].map(Duration::as_secs_f64);
            line += &format!(", down for {down:.1} s ({after:.1} s after the broker was back)");
        }
        io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, arrived, refused, given_up, duplicates, after_503 } = self;
        write!(
            f,
            "accepted {accepted}, arrived {arrived}, refused {refused}, given up {given_up}, \
             duplicates {duplicates}, after 503 {after_503}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event as a consumer finds it.
    fn found(sent: &Sent) -> Arrived {
        let attributes = [("id", sent.id()), ("subject", sent.object())];
        let proof = [(Provider::FastPix.header().to_owned(), sent.signature.clone())];
        Arrived {
            attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
            proof: proof.into(),
            body: sent.body.clone(),
        }
    }

    /// Two events of one client that insists, both answered 200.
    fn both() -> [Sent; 2] {
        [Sent::padded(1), Sent::padded(2)].map(|sent| Sent {
            insists: true,
            accepted: true,
            subject: 1,
            ..sent
        })
    }

    #[test]
    fn copies_and_what_was_never_accepted_are_counted() {
        let [first, second] = both();
        let sent = [first, Sent { accepted: false, refused: 2, ..second }];
        let arrived = [found(&sent[0]), found(&sent[1]), found(&sent[0])];
        let account = Account::balance(&sent, &arrived);
        let expected = "accepted 1, arrived 2, refused 2, given up 1, duplicates 1, after 503 1";
        assert_eq!(account.to_string(), expected);
    }

    #[test]
    fn what_is_wrong_is_noticed() {
        let sent = both();
        let [first, second] = sent.each_ref().map(Sent::id);
        let wrong = |sent: &[Sent], arrived: Vec<Arrived>| Account::try_balance(sent, &arrived).unwrap_err();
        let lost = wrong(&sent, vec![found(&sent[1])]);
        assert_eq!(lost, format!("{first} was answered 200 and is not there"));
        let overtaken = wrong(&sent, vec![found(&sent[1]), found(&sent[0])]);
        assert_eq!(overtaken, format!("{first} was overtaken by number {}", sent[1].number));
        let strange = wrong(&sent[..1], vec![found(&sent[1])]);
        assert_eq!(strange, format!("nobody sent \"{second}\""));
        let mut changed = found(&sent[0]);
        changed.body[20] ^= 1;
        assert!(wrong(&sent, vec![changed]).starts_with(&format!("{first} was sent otherwise: ")));
    }
}
