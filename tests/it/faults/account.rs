//! What clients were told, held against what a consumer finds.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::Duration,
};

use super::{crowd::Sent, stage::Stage};
use crate::support::{
    Provider,
    bus::{Arrived, Mark},
    say,
};

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
        let mut reading = Reading::of(sent);
        for found in arrived {
            reading.enter(found)?;
        }
        reading.close(sent)
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
        say(&line);
    }
}

/// An account while a consumer reads.
pub(super) struct Reading<'a> {
    by_number: HashMap<u64, &'a Sent>,
    there: HashSet<u64>,
    /// The newest event of each subject.
    last: HashMap<u64, u64>,
    duplicates: usize,
}

impl<'a> Reading<'a> {
    /// An account of what was sent, of which nothing has been read.
    pub(super) fn of(sent: &'a [Sent]) -> Self {
        Self {
            by_number: sent.iter().map(|sent| (sent.number, sent)).collect(),
            there: HashSet::new(),
            last: HashMap::new(),
            duplicates: 0,
        }
    }

    /// Enters what was found next. Returns what it is if it is the first of its kind.
    pub(super) fn enter(&mut self, found: &Arrived) -> Result<Option<&'a Sent>, String> {
        let id = found.id();
        let sent = Sent::number_in(id).and_then(|number| self.by_number.get(&number).copied());
        let sent = sent.ok_or_else(|| format!("nobody sent {id:?}"))?;
        let (body, object) = (sent.body(), sent.object());
        let proof = found.proof.get(Provider::FastPix.header());
        // What the provider would sign is what a consumer finds: it can verify it again.
        let authentic = proof == Some(&Provider::FastPix.signature(&body));
        if found.body != body || !authentic || found.attributes.get("subject") != Some(&object) {
            return Err(format!("{id} was sent otherwise: {found:?}"));
        }
        if !self.there.insert(sent.number) {
            self.duplicates += 1;
            return Ok(None);
        }
        if sent.insists {
            // Numbers of a client grow, and it has each of its subjects for itself.
            let before = self.last.insert(sent.subject, sent.number).unwrap_or(0);
            if before > sent.number {
                return Err(format!("{id} was overtaken by number {before}"));
            }
        }
        Ok(Some(sent))
    }

    /// Enters what has come to a place since this mark.
    pub(super) async fn enter_all(&mut self, stage: &Stage, place: &str, mark: &mut Mark) {
        loop {
            let page = stage.page(place, mark).await;
            if page.is_empty() {
                return;
            }
            for found in page {
                self.enter(&found).unwrap_or_else(|wrong| panic!("{}: {wrong}", stage.kind));
            }
        }
    }

    /// How many events that were answered 200 have not been read.
    pub(super) fn missing(&self) -> usize {
        let missing = |sent: &&&Sent| sent.accepted && !self.there.contains(&sent.number);
        self.by_number.values().filter(missing).count()
    }

    /// The figures: all that was answered 200 was read.
    pub(super) fn close(self, sent: &[Sent]) -> Result<Account, String> {
        let mut account = Account {
            arrived: self.there.len(),
            refused: sent.iter().map(|sent| sent.refused).sum(),
            duplicates: self.duplicates,
            ..Account::default()
        };
        for sent in sent {
            match (sent.accepted, self.there.contains(&sent.number)) {
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
        let signature = Provider::FastPix.signature(&sent.body());
        Arrived {
            attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
            proof: [(Provider::FastPix.header().to_owned(), signature)].into(),
            body: sent.body(),
            at: None,
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
