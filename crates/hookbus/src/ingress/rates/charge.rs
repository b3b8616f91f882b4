//! Where a request meets the rates: before its body, after its verification, and when it was in vain.

use std::time::Instant;

use super::Pace;
use crate::{
    config::RateLimit,
    ingress::{Ingress, Source, answer::Problem, client::Client},
};

impl Source {
    /// Takes no more authentic requests than this.
    pub(crate) fn limited_to(self, limit: Option<&RateLimit>) -> Self {
        Self { pace: limit.map(Pace::new), ..self }
    }
}

impl Ingress {
    /// Looks at who sends, before the body is read and anything is computed.
    pub(in crate::ingress) fn admit(&self, source: &Source, client: Client) -> Result<(), Problem> {
        let Some(address) = client.allowance() else { return Ok(()) };
        self.addresses.admit(address, self.pace, Instant::now()).map_err(|wait| {
            let problem = Problem::address_limited(wait);
            source.refusals.note(problem.reason(), client);
            problem
        })
    }

    /// Charges a source for a request that was verified, and remembers that its client can sign.
    pub(in crate::ingress) fn verified(&self, source: &Source, client: Client) -> Result<(), Problem> {
        let now = Instant::now();
        if let Some(address) = client.allowance() {
            self.addresses.authentic(address, now);
        }
        source.pace.map_or(Ok(()), |pace| source.taken.take(pace, now)).map_err(Problem::source_limited)
    }

    /// Charges a client for a request that was answered so, where that was in vain.
    pub(in crate::ingress) fn answered(&self, problem: &Problem, client: Client) {
        if let Some(address) = client.allowance().filter(|_| problem.is_clients()) {
            self.addresses.refused(address, self.pace, Instant::now());
        }
    }
}
